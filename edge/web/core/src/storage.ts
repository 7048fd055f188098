// The browser's storage. It may be missing, full or forbidden, as in a page that blocks cookies: then what is kept lasts
// as long as the page.

/** What can be kept under a name. */
export interface Area {
  get(name: string): string | null;
  set(name: string, value: string): void;
  remove(name: string): void;
  names(): string[];
}

/** Kept until it is removed, and shared by the tabs. */
export const lasting: Area = area(() => window.localStorage);

/** Kept as long as the tab, over reloads. */
export const ofTab: Area = area(() => window.sessionStorage);

function area(open: () => Storage): Area {
  const memory = new Map<string, string>();
  const attempt = <T>(work: (storage: Storage) => T): T | null => {
    try {
      return work(open());
    } catch {
      return null;
    }
  };
  return {
    get: (name) => memory.get(name) ?? attempt((storage) => storage.getItem(name)),
    set: (name, value) => {
      const kept = attempt((storage) => {
        storage.setItem(name, value);
        return true;
      });
      if (kept) memory.delete(name);
      else memory.set(name, value);
    },
    remove: (name) => {
      memory.delete(name);
      attempt((storage) => storage.removeItem(name));
    },
    names: () => [...new Set([...memory.keys(), ...(attempt((storage) => Object.keys(storage)) ?? [])])],
  };
}
