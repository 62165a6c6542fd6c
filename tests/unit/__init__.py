"""Tests that need no host and no network; seconds in all."""
