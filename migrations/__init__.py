"""The reference project: one migration history for services that share one database."""
