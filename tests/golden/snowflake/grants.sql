-- The test rows of dataset mart, hidden from "TRUNKLINE_TRAINING". Run as SECURITYADMIN and owner of
-- "FLIGHTS", once.
create role if not exists "TRUNKLINE_VAULT";
create role if not exists "TRUNKLINE_TRAINING";
grant role "TRUNKLINE_VAULT" to role "TRANSFORMER";
create schema if not exists "FLIGHTS"."TRUNKLINE_VAULT" with managed access;
grant usage on database "FLIGHTS" to role "TRUNKLINE_TRAINING";
grant usage on schema "FLIGHTS"."main" to role "TRUNKLINE_TRAINING";
grant select on table "FLIGHTS"."main"."mart" to role "TRUNKLINE_TRAINING";
grant usage on schema "FLIGHTS"."TRUNKLINE_VAULT" to role "TRANSFORMER";
-- "TRUNKLINE_TRAINING" gets nothing else: raw tables, other dbt models and Trunkline's own schema hold test rows too.
create or replace row access policy "FLIGHTS"."TRUNKLINE_VAULT"."MART_TEST" as ("at" timestamp_ntz) returns boolean ->
  not coalesce(not ("at" < cast('2025-01-05 00:00:00' as timestamp)), false) or is_role_in_session('TRUNKLINE_VAULT');
alter table "FLIGHTS"."main"."mart" drop all row access policies;
alter table "FLIGHTS"."main"."mart" add row access policy "FLIGHTS"."TRUNKLINE_VAULT"."MART_TEST" on ("at");
grant apply on row access policy "FLIGHTS"."TRUNKLINE_VAULT"."MART_TEST" to role "TRANSFORMER";
-- dbt makes the table anew, without its policies. Have it set this one each time, in the model's config:
--   post_hook=["alter table {{ this }} drop all row access policies",
--              "alter table {{ this }} add row access policy \"FLIGHTS\".\"TRUNKLINE_VAULT\".\"MART_TEST\" on (\"at\")"]
