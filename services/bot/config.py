"""Settings of the bot."""

from __future__ import annotations

from pydantic import Field

from mesh.process.config import ServiceConfig
from services.bot.domain import Thresholds


class BotConfig(ServiceConfig):
    """The bot's settings."""

    # Confidence from which on it answers; see services/bot/domain.py for what that is and how it was chosen.
    answer_confidence: float = Field(default=Thresholds().answer, ge=0, le=3)
    # Score from which on it names an entry that may be meant, to those who write Chinese and English.
    suggest_score: float = Field(default=Thresholds().suggest, ge=-1, le=1)
    suggest_score_english: float = Field(default=Thresholds().suggest_english, ge=-1, le=1)
    # By how much an entry in another language must be better than one in the question's.
    own_language_margin: float = Field(default=Thresholds().own_language, ge=0, le=1)
    # Messages that are answered at once, of as many sessions.
    max_in_flight: int = Field(default=64, gt=0)
