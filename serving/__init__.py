"""The prediction service: answers programs that must never wait or fail, and logs what it said."""
