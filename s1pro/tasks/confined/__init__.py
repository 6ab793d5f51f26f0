"""Code of others in processes that can reach nothing."""
