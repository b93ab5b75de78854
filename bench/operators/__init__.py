"""The operators of event time, one by one, beside those of Kafka Streams."""
