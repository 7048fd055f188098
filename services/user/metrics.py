"""Prometheus metrics of the user service."""

from prometheus_client import Counter

SIGN_INS = Counter("octopus_user_sign_ins_total", "Tokens issued, by proof of identity.", ["proof"])
LOCKED_OUT = Counter("octopus_user_locked_out_total", "Attempts refused because of too many failures before.")
STOLEN = Counter("octopus_user_refresh_tokens_stolen_total", "Families revoked because a used token came back.")
VISITORS_REFUSED = Counter("octopus_user_visitors_refused_total", "Visitors refused because too many came at once.")
VISITORS_PURGED = Counter("octopus_user_visitors_purged_total", "Visitors deleted who began no conversation.")
