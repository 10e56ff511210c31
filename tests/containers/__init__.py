"""The images and all containers together, built and run by a real engine: `make test-containers`."""
