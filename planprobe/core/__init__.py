"""The nouns of planprobe. This room imports nothing else of ours."""
