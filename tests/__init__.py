"""Tests of the deploy: unit (no host), host (reads one), e2e (deploys for real), sandbox."""
