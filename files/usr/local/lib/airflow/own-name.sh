#!/bin/sh
# own-name.sh: print the name by which Airflow knows this host, and tells it apart from the others.
# Preflight sends this text. Written by the deploy of Airflow.
hostname -f 2>/dev/null || hostname # the name service may not know it
