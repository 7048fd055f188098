"""What Prometheus can ask the chat service."""

from prometheus_client import Counter, Gauge

CONNECTIONS = Gauge("octopus_chat_connections", "Open streams on this instance.")
POSTED = Counter("octopus_chat_posted_total", "Messages acknowledged.", ["speaker"])
DUPLICATES = Counter("octopus_chat_duplicates_total", "Resends acknowledged with the first message.", ["speaker"])
REFUSED = Counter("octopus_chat_refused_total", "Frames refused.", ["reason"])
ENDED = Counter("octopus_chat_streams_ended_total", "Streams the server ended.", ["reason"])
LOG_READS = Counter("octopus_chat_log_reads_total", "Reads of the log for those who resume or missed something.")
UNREADABLE = Counter("octopus_chat_unreadable_total", "Log entries that could not be decoded and were left out.")
ID_READS = Counter("octopus_chat_id_reads_total", "Reads of the log for the ids of old sessions.")
WORDS_FOUND = Counter("octopus_chat_words_found_total", "Sensitive words found in texts.", ["action"])
UNCHECKED = Counter("octopus_chat_unchecked_total", "Texts stored unchecked: the shop's word list was never read.")
OLD_WORD_LISTS = Gauge("octopus_chat_old_word_lists", "Shops whose word list could not be read for a minute.")
