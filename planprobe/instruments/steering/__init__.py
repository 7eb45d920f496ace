"""Plan steering: another plan written into the memory."""
