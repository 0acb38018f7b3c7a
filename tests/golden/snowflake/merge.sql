create temporary table DB.TRUNKLINE.TEMPORARY_3 as select K0, K1, V0, V1, V2, Y, O from (select try_cast(L.R1 as NUMBER(38,0)) as K0, L.R0 as K1, L.R0 as V0, try_cast(L.R1 as NUMBER(38,0)) as V1, try_cast(L.R2 as TIMESTAMP_TZ) as V2, L.X as Y, L.P as O, try_cast(L.R2 as TIMESTAMP_TZ) as S, L.N from DB.TRUNKLINE.TEMPORARY_1 as L where not (L.E is not null or (L.R1 is not null and try_cast(L.R1 as NUMBER(38,0)) is null) or (L.R2 is not null and try_cast(L.R2 as TIMESTAMP_TZ) is null))) qualify row_number() over (partition by K0, K1 order by S desc nulls last, N desc) = 1;

delete from "DB"."RAW"."T" as T using DB.TRUNKLINE.TEMPORARY_3 as C where T."ID" = C.K0 and T."REGION" = C.K1;

insert into "DB"."RAW"."T" ("REGION", "ID", "SEEN", "_LOAD_ID", "_LOADED_AT", "_EXTRA") select C.V0 as "REGION", C.V1 as "ID", C.V2 as "SEEN", 'load_1' as "_LOAD_ID", cast('2026-01-02 01:04:05.000678+00:00' as timestamp_tz) as "_LOADED_AT", try_parse_json(C.Y) as "_EXTRA" from DB.TRUNKLINE.TEMPORARY_3 as C where C.O is distinct from 'delete';

