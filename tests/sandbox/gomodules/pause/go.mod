module airflow-sandbox/pause

go 1.22
