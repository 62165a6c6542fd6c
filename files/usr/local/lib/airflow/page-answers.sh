#!/bin/sh
# page-answers.sh URL: the web page of this host, which is at URL, answers within 3 seconds, and has its
# database. keepalived asks every 2 seconds, as nobody, which may not read the host's values. The
# certificate does not matter on the way to the host itself, and Airflow does not log this request.
# Written by the deploy of Airflow.
curl -qfsk --noproxy '*' -m 3 "$1/api/v2/monitor/health" | grep -q '"metadatabase":{"status":"healthy"'
