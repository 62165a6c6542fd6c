-- The rights of the role airflow-dags, whose processes (dag-processor, triggerer) run the code of
-- DAGs. Prints the statements that the database lacks; with \gexec at its end psql runs them. The
-- second run prints nothing.
--
-- A relation that is not named here is closed, so one that a later version of Airflow adds stays
-- closed until somebody decides. Data that user airflow or a person relies on is never open to the
-- role: pickles (executor_config), Jinja templates (log_template), logins and roles, others'
-- records in the audit log, others' heartbeats. Otherwise the author of a DAG would become user
-- airflow, or an administrator of the web page. Paths name Airflow's source.
--
-- A missing right ends the dag-processor, which then fails at each start: try a new version of
-- Airflow with tests/e2e/attacks.
--
-- The database's owner runs this, for the owner's own relations. It uses qualified names, and only
-- PostgreSQL's own functions, operators and types.
set search_path to pg_catalog;
with decided (relation, rights, why) as (values
    -- Who logs in, and with which rights.
    ('ab_group', '', 'logins'),
    ('ab_group_role', '', 'logins'),
    ('ab_permission', 'select insert', 'names of actions; each new DAG gets its own permissions'),
    ('ab_permission_view', 'select insert', 'each new DAG gets its own permissions'),
    ('ab_permission_view_role', 'select insert delete', 'access_control of DAGs; rows: see below'),
    ('ab_register_user', '', 'logins'),
    ('ab_role', 'select', 'access_control of DAGs names roles'),
    ('ab_user', '', 'logins'),
    ('ab_user_group', '', 'logins'),
    ('ab_user_role', '', 'logins'),
    ('ab_view_menu', 'select insert', 'each new DAG gets its own permissions'),
    ('revoked_token', '', 'logins'),
    ('session', '', 'logins'),
    -- Written by a migration or a person.
    ('alembic_version', 'select', 'each start compares the version of the schema'),
    ('alembic_version_fab', 'select', 'each start compares the version of the schema'),
    ('backfill', 'select', 'a person asks for it'),
    ('backfill_dag_run', 'select', 'the scheduler makes it'),
    ('connection', 'select', 'DAGs use connections; a person or the deploy writes them'),
    ('connection_test_request', '', 'passwords that a person tries'),
    ('dag_bundle_team', 'select', 'teams are not used here'),
    ('dag_favorite', '', 'a person''s'),
    ('dag_run_note', '', 'a person''s'),
    ('slot_pool', 'select', 'warnings of pools that are missing'),
    ('task_instance_note', '', 'a person''s'),
    ('team', 'select', 'teams are not used here'),
    -- cli/utils: each start compares it; the api-server, which starts first, writes a changed one.
    ('log_template', 'select', 'a Jinja template that the api-server renders'),
    -- Records of what happened.
    ('job', 'select insert update(state,start_date,end_date,latest_heartbeat)',
        'own heartbeats; rows: see below'),
    -- utils/cli_action_loggers.py; assets/manager.py. The column id is for "returning".
    ('log', 'insert select(id)', 'the start of a service, events of assets; rows: see below'),
    -- DAGs, which the dag-processor makes of their files: dag_processing/collection.py.
    ('dag', 'select insert update(' ||
        'is_stale,exceeds_max_non_backfill,last_parsed_time,last_parse_duration,fileloc,' ||
        'relative_fileloc,bundle_name,bundle_version,owners,dag_display_name,description,' ||
        'timetable_type,timetable_summary,timetable_description,timetable_partitioned,' ||
        'timetable_periodic,partition_mapper_info,asset_expression,deadline,max_active_tasks,' ||
        'max_active_runs,max_consecutive_failed_dag_runs,has_task_concurrency_limits,' ||
        'has_import_errors,fail_fast,allowed_run_types,next_dagrun,next_dagrun_data_interval_start,' ||
        'next_dagrun_data_interval_end,next_dagrun_partition_key,next_dagrun_partition_date,' ||
        'next_dagrun_create_after)', 'all but is_paused, which a person decides'),
    ('dag_bundle', 'select insert update', 'state of the sources'),
    ('dag_code', 'select insert update', 'their text for the web page'),
    ('dag_owner_attributes', 'select insert update delete', 'links of owners'),
    ('dag_priority_parsing_request', 'select delete', 'requests of the web page, once done'),
    ('dag_tag', 'select insert delete', 'tags'),
    ('dag_version', 'select insert update', 'versions'),
    ('dag_warning', 'select insert update delete', 'warnings'),
    ('deadline_alert', 'select insert update delete', 'deadlines that a DAG declares'),
    ('import_error', 'select insert update delete', 'errors of files'),
    ('serialized_dag', 'select insert update', 'the DAG itself'),
    -- Assets: those that DAGs declare (dag-processor), and events of watched ones (triggerer):
    -- assets/manager.py register_asset_change.
    ('asset', 'select insert update', 'declared by DAGs'),
    ('asset_active', 'select insert', 'declared by DAGs'),
    ('asset_alias', 'select insert update', 'declared by DAGs'),
    ('asset_alias_asset', 'select', 'the api-server joins them when a task emits'),
    ('asset_alias_asset_event', 'select', 'the api-server joins them when a task emits'),
    ('asset_dag_run_queue', 'select insert delete',
        'an event queues runs; they go with the reference of a DAG that changes'),
    ('asset_event', 'select insert', 'an event of a watched asset'),
    ('asset_partition_dag_run', 'select insert update', 'an event queues runs of a partition'),
    ('asset_state_store', 'select insert update delete', 'triggers keep state of watched assets'),
    ('asset_watcher', 'select insert update delete', 'declared by DAGs'),
    ('dag_schedule_asset_alias_reference', 'select insert update delete', 'declared by DAGs'),
    ('dag_schedule_asset_name_reference', 'select insert update delete', 'declared by DAGs'),
    ('dag_schedule_asset_reference', 'select insert update delete', 'declared by DAGs'),
    ('dag_schedule_asset_uri_reference', 'select insert update delete', 'declared by DAGs'),
    ('dagrun_asset_event', 'select', 'the scheduler makes it'),
    ('partitioned_asset_key_log', 'select insert', 'an event queues runs of a partition'),
    ('task_inlet_asset_reference', 'select insert update delete', 'declared by DAGs'),
    ('task_outlet_asset_reference', 'select insert update delete', 'declared by DAGs'),
    -- Runs. models/trigger.py: a deferred task goes on, ends, or gets its next try.
    ('dag_run', 'select', 'scheduler and api-server write it'),
    ('deadline', 'select', 'the scheduler makes it'),
    ('rendered_task_instance_fields', 'select', 'tasks write it through the api-server'),
    ('task_instance', 'select update(id,start_date,end_date,duration,state,scheduled_dttm,' ||
        'trigger_id,next_method,next_kwargs,updated_at)',
        'a trigger wakes its task; executor_config is a pickle'),
    ('task_instance_history', 'select insert', 'the next try after a trigger; rows: see below'),
    ('task_map', 'select', 'sizes of pushed lists; tasks write them through the api-server'),
    ('task_reschedule', 'select delete', 'the next try after a trigger'),
    ('task_state_store', 'select', 'tasks write it through the api-server'),
    ('xcom', 'select insert delete', 'triggers push, and replace by deleting'),
    ('variable', 'select insert update delete', 'DAGs and triggers set variables'),
    -- update: the lock with which the triggerer takes its triggers needs a right on each table.
    ('callback', 'select insert delete update(state,output,trigger_id)',
        'callbacks of DAGs run here; rows: see below'),
    ('trigger', 'select insert delete update(triggerer_id)', 'triggers of assets, of this triggerer'),
    -- triggers of providers/standard/triggers/hitl.py answer by default when nobody does in time.
    ('hitl_detail', 'select update(responded_at,chosen_options,params_input)',
        'no answer in a person''s name'),
    ('hitl_detail_history', 'select', 'answers of people')
),
-- Whole tables are open, but not each row. A trigger refuses the others; unlike a policy it depends
-- on no column, so it is in no migration's way.
guard (source) as (values ($source$
declare
    -- Python has no other times, and Airflow ends when it reads one. These leave room for a time zone.
    earliest constant timestamptz := '0002-01-01';
    latest constant timestamptz := '9998-12-31';
    allowed boolean := true;
    part record;
    moment timestamptz;
    content jsonb;
    last bigint;
begin
    if tg_op <> 'DELETE' then
        for part in select attname as name, atttypid::regtype::text as kind
            from pg_attribute
            where attrelid = tg_relid and not attisdropped
            and atttypid in ('timestamptz'::regtype, 'json'::regtype, 'jsonb'::regtype)
        loop
            if part.kind = 'timestamp with time zone' then
                execute format('select ($1).%I', part.name) into moment using new;
                if moment not between earliest and latest then
                    -- Not refused: a start_date in a DAG may be such, and would end the dag-processor.
                    new := jsonb_populate_record(new, jsonb_build_object(
                        part.name, least(greatest(moment, earliest), latest)));
                end if;
            else
                -- Python reads no number of more than 4300 digits, and no deep nesting.
                execute format('select ($1).%I::jsonb', part.name) into content using new;
                allowed := allowed and (
                    content @? '$.** ? (@.type() == "number" && (@ > 1e400 || @ < -1e400))'
                    or content @? '$.**{250}'
                ) is not true;
                -- The other type also keeps the first of two equal keys, which nobody has looked at.
                if part.kind = 'json' and jsonb_typeof(content) <> 'null' then
                    new := jsonb_populate_record(new, jsonb_build_object(part.name, content));
                end if;
            end if;
        end loop;
        -- A sequence gives each id only once: Airflow fails if it gets one that is taken.
        select s.last_value into last
        from pg_class as c join pg_sequences as s on s.sequencename = c.relname
        left join pg_depend as d on d.classid = 'pg_class'::regclass and d.objid = c.oid
            and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
        where c.relnamespace = 'public'::regnamespace and s.schemaname = 'public'
        and (d.refobjid = tg_relid or d.objid is null and c.relname = tg_table_name || '_id_seq');
        if found then
            allowed := allowed and (new.id <= last or tg_op = 'UPDATE' and new.id = old.id);
        end if;
    end if;
    case tg_table_name
    when 'job' then
        -- The scheduler's heartbeat decides whether liveness kills it.
        allowed := allowed and new.job_type in ('DagProcessorJob', 'TriggererJob')
            and (tg_op = 'INSERT' or old.job_type = new.job_type);
    when 'log' then
        -- Nobody writes in another's name.
        new.owner := current_user;
        new.owner_display_name := null;
    when 'callback' then
        -- Those of other types name code that the scheduler gives to an executor.
        allowed := allowed and case tg_op
            when 'INSERT' then new.type = 'dag_processor'
            when 'UPDATE' then old.type = 'triggerer'
            else old.type = 'dag_processor'
        end;
    when 'task_instance' then
        -- Neither scheduler nor api-server can read a task with next_kwargs of another type.
        allowed := allowed and jsonb_typeof(new.next_kwargs::jsonb) in ('object', 'null') is not false;
    when 'task_instance_history' then
        allowed := allowed and jsonb_typeof(new.next_kwargs::jsonb) in ('object', 'null') is not false;
        -- A pickle: only the one that the task has.
        select executor_config into new.executor_config
        from public.task_instance where id = new.task_instance_id;
    when 'hitl_detail' then
        -- An answer that a person gave stays as it is. The next try of a task has JSON's null.
        allowed := allowed and (jsonb_typeof(old.responded_by::jsonb) = 'null') is not false;
    when 'ab_permission_view_role' then
        -- Rights on DAGs and their runs (access_control), and on nothing else.
        allowed := allowed and exists (
            select from public.ab_permission_view as permission
            join public.ab_view_menu as resource on resource.id = permission.view_menu_id
            where permission.id = coalesce(new.permission_view_id, old.permission_view_id)
            and resource.name ~ '^DAG( Run)?:'
        );
    else
        null;
    end case;
    if allowed is not true then
        raise insufficient_privilege using message =
            'permission denied: airflow-dags may not write this row of ' || tg_table_name;
    end if;
    if tg_op = 'DELETE' then
        return old;
    end if;
    return new;
end
$source$)),
-- The columns that metrics.yaml asks for as the role of Debian's exporter, where there is one.
measured (relation, columns) as (values
    ('dag_run', 'state,end_date'),
    ('import_error', 'id'),
    ('job', 'job_type,latest_heartbeat'),
    ('slot_pool', 'pool,slots,include_deferred'),
    ('task_instance', 'state,queued_dttm,pool,pool_slots')
),
relations as (
    select c.oid, c.relname, c.relacl, c.relowner, coalesce(d.rights, '') as rights
    from pg_class as c left join decided as d on d.relation = c.relname
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
    and pg_has_role(c.relowner, 'usage')
),
guarded (relation) as (select relname from relations where rights ~ 'insert|update'),
role (oid) as (select oid from pg_roles where rolname = 'airflow-dags'),
-- Each right on a relation: '*' on the whole, otherwise the names of its columns.
wanted as (
    select r.oid, upper(found[1]) as privilege,
        case when found[2] is null then array['*'] else array(
            select a.attname::text from pg_attribute as a
            where a.attrelid = r.oid and not a.attisdropped
            and a.attname = any (string_to_array(found[2], ',')) order by 1
        ) end as columns
    from relations as r,
        regexp_matches(r.rights, '(select|insert|update|delete)(?:\(([^)]*)\))?', 'g') as found
),
given as (
    select oid, privilege, array_agg(name order by name) as columns
    from (
        select r.oid, acl.privilege_type as privilege, '*' as name
        from relations as r, aclexplode(r.relacl) as acl
        where acl.grantee in (select role.oid from role)
        union
        select a.attrelid, acl.privilege_type, a.attname::text
        from pg_attribute as a, aclexplode(a.attacl) as acl
        where a.attrelid in (select r.oid from relations as r) and not a.attisdropped
        and acl.grantee in (select role.oid from role)
    ) as each
    group by oid, privilege
),
statements (place, statement) as (
    -- One cell is one transaction, so a service never misses a right that it keeps. To take a right
    -- on the table takes that on each column.
    select 1, concat_ws('; ',
        case when given.oid is not null
        then format('revoke %s on table public.%I from "airflow-dags"', privilege, relname) end,
        case when wanted.columns = array['*']
        then format('grant %s on table public.%I to "airflow-dags"', privilege, relname)
        when cardinality(wanted.columns) > 0
        then format('grant %s (%s) on table public.%I to "airflow-dags"', privilege,
            (select string_agg(quote_ident(name), ', ') from unnest(wanted.columns) as name), relname)
        end)
    from wanted full join given using (oid, privilege) join relations using (oid)
    where coalesce(wanted.columns, '{}') <> coalesce(given.columns, '{}')
    union all
    -- A role that may add rows to a table may use its sequence. Those of logins belong to no table,
    -- and have its name.
    select 1, format('%s %s on sequence public.%I %s "airflow-dags"', verb, privilege, s.relname,
        case verb when 'grant' then 'to' else 'from' end)
    from pg_class as s
    left join pg_depend as d on d.classid = 'pg_class'::regclass and d.objid = s.oid
        and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i'),
    unnest(array['USAGE', 'SELECT', 'UPDATE']) as privilege,
    lateral (select
        privilege = 'USAGE' and exists (
            select from wanted as w join relations as r using (oid)
            where w.privilege = 'INSERT'
            and (w.oid = d.refobjid or d.objid is null and s.relname = r.relname || '_id_seq')
        ) as is_wanted,
        exists (
            select from aclexplode(s.relacl) as acl
            where acl.grantee in (select role.oid from role) and acl.privilege_type = privilege
        ) as is_given
    ) as state,
    lateral (select case when is_wanted then 'grant' else 'revoke' end as verb) as verbs
    where s.relnamespace = 'public'::regnamespace and s.relkind = 'S' and is_wanted <> is_given
    and pg_has_role(s.relowner, 'usage')
    union all
    select 1, format('revoke all on %s public.%I from public',
        case c.relkind when 'S' then 'sequence' else 'table' end, c.relname)
    from pg_class as c
    where c.relnamespace = 'public'::regnamespace and pg_has_role(c.relowner, 'usage')
    and exists (select from aclexplode(c.relacl) as acl where acl.grantee = 0)
    union all
    select 1, format('grant select (%s) on table public.%I to prometheus',
        string_agg(quote_ident(a.attname), ', ' order by a.attname), r.relname)
    from measured as m join relations as r on r.relname = m.relation
    join pg_attribute as a on a.attrelid = r.oid and not a.attisdropped
        and a.attname = any (string_to_array(m.columns, ','))
    where not has_column_privilege(
        (select p.oid from pg_roles as p where p.rolname = 'prometheus'), r.oid, a.attnum, 'select')
    group by r.relname
    union all
    select 2, format(
        'create or replace function public.airflow_dags_rows() returns trigger language plpgsql'
        ' set search_path to pg_catalog, pg_temp as %L; alter function public.airflow_dags_rows() owner to %I',
        source, (select pg_get_userbyid(datdba) from pg_database where datname = current_database())
    )
    from guard
    where not exists (
        select from pg_proc as p
        where p.pronamespace = 'public'::regnamespace and p.proname = 'airflow_dags_rows'
        and p.prosrc = source and p.proconfig = array['search_path=pg_catalog, pg_temp']
    )
    union all
    select 3, format(
        'create or replace trigger airflow_dags_rows before insert or update or delete on public.%I'
        ' for each row when (current_user = ''airflow-dags'')'
        ' execute function public.airflow_dags_rows()', relname
    )
    from guarded join relations on relations.relname = guarded.relation
    where not exists (
        select from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid
        where t.tgrelid = relations.oid and t.tgname = 'airflow_dags_rows' and t.tgenabled = 'O'
        and t.tgtype = 31  -- before each row, for all three
        -- It names the role, which another server or another setting may change.
        and strpos(pg_get_triggerdef(t.oid), format('(CURRENT_USER = %L::', 'airflow-dags')) > 0
        and p.pronamespace = 'public'::regnamespace and p.proname = 'airflow_dags_rows'
    )
    union all
    -- Python reads each time that the API takes, but some of the years 1 and 9999 only in UTC.
    select 4, format('alter database %I set timezone to ''UTC''', current_database())
    where not exists (
        select from pg_db_role_setting as s join pg_database as d on d.oid = s.setdatabase
        where d.datname = current_database() and s.setrole = 0
        and 'TimeZone=UTC' = any (s.setconfig)
    )
)
select statement from statements order by place, statement
