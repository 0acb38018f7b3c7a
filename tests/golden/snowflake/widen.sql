create or replace table "DB"."RAW"."T" copy grants as select "ID", "Odd Name", cast("N" as FLOAT) as "N", "_LOAD_ID" from "DB"."RAW"."T";

