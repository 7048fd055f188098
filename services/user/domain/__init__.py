"""The rules of users: who may be what, whose proof of identity counts, and how long.

Pure: time comes in as an argument. Refusals are exceptions below `UserError`.

| module | rules |
| --- | --- |
| `user.py` | kinds, roles, fields; who may log in |
| `identity.py` | the signature of a shop's server; a new password |
| `guessing.py` | how long a guesser of passwords waits |
| `tokens.py` | lifetimes; the standing of a refresh token; which key signs |
| `revocation.py` | why a user's tokens are revoked |
| `errors.py` | the refusals |
"""

from services.user.domain.errors import (
    AlreadyExists,
    CredentialsWrong,
    Disabled,
    Invalid,
    LockedOut,
    NotFound,
    TokenExpired,
    TokenInvalid,
    TooManyVisitors,
    UserError,
)
from services.user.domain.guessing import (
    ADDRESS_KNOWN,
    GUESS_WINDOW,
    GUESSES_AT_ADDRESS,
    GUESSES_AT_KNOWN_ADDRESS,
    GUESSES_OF_ADDRESS,
    GUESSES_OF_NAME,
    GuessLimit,
    delay,
    network_of,
)
from services.user.domain.identity import (
    SIGNATURE_TOLERANCE,
    SignedShopper,
    check_identity,
    check_new_password,
    identity_text,
    sign_identity,
)
from services.user.domain.revocation import (
    ACTION_OF_CAUSE,
    Action,
    LogOutCause,
    Revocation,
)
from services.user.domain.tokens import (
    ACCESS_LIFETIME,
    KEY_LEAD,
    KEY_TAIL,
    REFRESH_LIFETIME,
    REFRESH_RETRY,
    RefreshToken,
    Standing,
    ended_keys,
    next_activation,
    signing_key,
    standing,
)
from services.user.domain.user import (
    ROLES_OF_KIND,
    Kind,
    Role,
    Tenant,
    User,
    check_capacity,
    check_new,
    found,
    granted_scopes,
    masked_phone,
    may_log_in,
    visitor_name,
)

__all__ = [
    "ACCESS_LIFETIME",
    "ACTION_OF_CAUSE",
    "ADDRESS_KNOWN",
    "GUESSES_AT_ADDRESS",
    "GUESSES_AT_KNOWN_ADDRESS",
    "GUESSES_OF_ADDRESS",
    "GUESSES_OF_NAME",
    "GUESS_WINDOW",
    "KEY_LEAD",
    "KEY_TAIL",
    "REFRESH_LIFETIME",
    "REFRESH_RETRY",
    "ROLES_OF_KIND",
    "SIGNATURE_TOLERANCE",
    "Action",
    "AlreadyExists",
    "CredentialsWrong",
    "Disabled",
    "GuessLimit",
    "Invalid",
    "Kind",
    "LockedOut",
    "LogOutCause",
    "NotFound",
    "RefreshToken",
    "Revocation",
    "Role",
    "SignedShopper",
    "Standing",
    "Tenant",
    "TokenExpired",
    "TokenInvalid",
    "TooManyVisitors",
    "User",
    "UserError",
    "check_capacity",
    "check_identity",
    "check_new",
    "check_new_password",
    "delay",
    "ended_keys",
    "found",
    "granted_scopes",
    "identity_text",
    "masked_phone",
    "may_log_in",
    "network_of",
    "next_activation",
    "sign_identity",
    "signing_key",
    "standing",
    "visitor_name",
]
