-- The database and the roles that a deploy with postgres_provider = "existing" needs. An admin of the
-- PostgreSQL runs this once, and then gives both roles a password, unless they log in with certificates:
--
--   psql -h db.example.com -d postgres -v database=airflow -v owner=airflow -v dags=airflow-dags
--   postgres=> \i database.sql
--   postgres=> \password airflow
--   postgres=> \password airflow-dags

\set ON_ERROR_STOP on

-- The scheduler, the api-server and the commands: it owns the database, and gives the other role its
-- rights on each table.
create role :"owner" login nosuperuser nocreatedb nocreaterole noreplication nobypassrls;
-- The dag-processor and the triggerer, which run the code of DAGs. They leave connections for the
-- others: write 10 more for each host of Airflow beyond the first.
create role :"dags" login nosuperuser nocreatedb nocreaterole noreplication nobypassrls
    connection limit 30;
-- A superuser can keep errors of this role, of any size and number, out of the server's log:
--   postgres=# alter role "airflow-dags" set log_min_messages = fatal;

-- An admin who is no superuser, as in managed services, may make a database only for a role of which
-- the admin is a member.
grant :"owner" to current_user;
create database :"database" owner :"owner" template template0 encoding 'UTF8';

-- Nobody else may connect.
revoke all on database :"database" from public;
grant connect, temporary on database :"database" to :"dags";
revoke :"owner" from current_user;
