-- What the role airflow-dags lacks, and what it has beyond, as statements: prints them, and with
-- \gexec at its end does them. Written by the deploy of Airflow, which calls it.
--
-- The role is that of what runs DAGs' code. It reads connections but can't change them, and has
-- nothing of those who log in to the web page: else a DAG could make itself an administrator.
select format(
    '%s %s on %s public.%I %s "airflow-dags"',
    case when wanted then 'grant' else 'revoke' end,
    privilege,
    kind,
    name,
    case when wanted then 'to' else 'from' end
)
from (
    select 'table' as kind, tablename as name, privilege,
        has_table_privilege('airflow-dags', format('public.%I', tablename), privilege) as given,
        case
            when tablename in (
                'ab_group', 'ab_group_role', 'ab_register_user', 'ab_user', 'ab_user_group',
                'ab_user_role', 'revoked_token', 'session'
            ) then false
            when tablename in ('alembic_version', 'alembic_version_fab', 'connection', 'ab_role')
            then privilege = 'select'
            else privilege in ('select', 'insert', 'update', 'delete')
        end as wanted
    from pg_tables, unnest(array[
        'select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger'
    ]) as privilege
    where schemaname = 'public'
    union all
    select 'sequence', sequencename, 'usage',
        has_sequence_privilege('airflow-dags', format('public.%I', sequencename), 'usage'),
        sequencename not in (
            'ab_group_id_seq', 'ab_group_role_id_seq', 'ab_register_user_id_seq', 'ab_user_id_seq',
            'ab_user_group_id_seq', 'ab_user_role_id_seq', 'ab_role_id_seq', 'session_id_seq',
            'connection_id_seq'
        )
    from pg_sequences
    where schemaname = 'public'
) as rights
where given <> wanted
