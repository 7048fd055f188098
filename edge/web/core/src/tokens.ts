// Keeps a person's tokens in the browser. Tabs share them: refresh tokens can be used once, so only one tab may refresh.

import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { Reason } from "@octopus/contracts/octopus/errors/v1/errors_pb";
import type { TokenPair } from "@octopus/contracts/octopus/user/v1/auth_service_pb";

import { openApi, reasonOf, SignedOut, type Tokens } from "./api";
import { lasting } from "./storage";

/** What is kept. */
export interface Kept {
  access: string;
  /** Milliseconds since the epoch. */
  accessEndsAt: number;
  refresh: string;
  /** Decimal user id. */
  userId: string;
  displayName: string;
  /** Whatever the page needs to know again after a reload, e.g. the shop. */
  note: string;
}

// Refresh this long before the end, for the clocks of two machines differ.
const EARLY_MS = 60_000;

/** The tokens under one name in the browser's storage. */
export class Keyring implements Tokens {
  constructor(
    private readonly origin: string,
    private readonly name: string,
  ) {}

  /** What is kept, if anything. */
  get kept(): Kept | undefined {
    const text = lasting.get(this.name);
    return text === null ? undefined : (JSON.parse(text) as Kept);
  }

  /** Keep the tokens of a fresh log-in. */
  keep(pair: TokenPair, userId: bigint, displayName: string, note = ""): void {
    lasting.set(
      this.name,
      JSON.stringify({
        access: pair.accessToken,
        accessEndsAt: pair.accessExpiresAt ? timestampMs(pair.accessExpiresAt) : 0,
        refresh: pair.refreshToken,
        userId: userId.toString(),
        displayName,
        note,
      } satisfies Kept),
    );
  }

  /** Forget the tokens of this browser. */
  forget(): void {
    lasting.remove(this.name);
  }

  /** Log out: revoke the tokens and forget them. */
  async revoke(): Promise<void> {
    const refresh = this.kept?.refresh;
    this.forget();
    if (refresh) await openApi(this.origin).auth.revokeToken({ refreshToken: refresh });
  }

  /** Consider the access token bad: the next call refreshes. */
  doubt(): void {
    const kept = this.kept;
    if (kept) lasting.set(this.name, JSON.stringify({ ...kept, accessEndsAt: 0 }));
  }

  /** Replace the tokens by what a call returns that takes the old ones back; nobody refreshes meanwhile. */
  async exchange(work: (access: string) => Promise<TokenPair>): Promise<void> {
    // Given along: a call that asks for the token itself would wait for its own turn.
    const access = await this.current();
    await this.alone(async () => {
      const pair = await work(access);
      const kept = this.kept;
      if (kept) this.keep(pair, BigInt(kept.userId), kept.displayName, kept.note);
    });
  }

  async current(): Promise<string> {
    const kept = this.kept;
    if (!kept) throw new SignedOut();
    if (kept.accessEndsAt - EARLY_MS > Date.now()) return kept.access;
    return this.alone(() => this.refresh());
  }

  private async refresh(): Promise<string> {
    // Another tab may have refreshed while this one waited for its turn.
    const kept = this.kept;
    if (!kept) throw new SignedOut();
    if (kept.accessEndsAt - EARLY_MS > Date.now()) return kept.access;
    try {
      const { tokens } = await openApi(this.origin).auth.refreshToken({ refreshToken: kept.refresh });
      if (!tokens) throw new SignedOut();
      this.keep(tokens, BigInt(kept.userId), kept.displayName, kept.note);
      return tokens.accessToken;
    } catch (error) {
      if (ConnectError.from(error).code === Code.Unauthenticated || reasonOf(error) === Reason.DISABLED) {
        this.forget();
        throw new SignedOut();
      }
      throw error;
    }
  }

  /** Do something while no other tab refreshes. */
  private alone<T>(work: () => Promise<T>): Promise<T> {
    // Old WebViews of mini-programs have no locks; they have no tabs either.
    return navigator.locks ? navigator.locks.request(`${this.name}:refresh`, work) : work();
  }
}
