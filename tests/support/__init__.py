"""What the tests share: throw-away servers with databases, queries, and headstart as a real process."""
