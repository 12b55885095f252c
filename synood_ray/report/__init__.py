"""The page and the table that a person looks at after a run."""
