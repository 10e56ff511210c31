"""The service, over real HTTP and on real databases."""
