"""What Prometheus can ask the archive."""

from prometheus_client import Counter, Gauge

ARCHIVED = Counter("octopus_archive_entries_total", "Log entries written, repeated deliveries included.")
BEHIND = Gauge("octopus_archive_behind_seconds", "Age of the newest entry of the last batch when it was committed.")
REPEATED = Counter("octopus_archive_repeated_total", "Messages left out: their author's id was there already.")
