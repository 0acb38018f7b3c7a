create or replace function "DB"."ANALYTICS"."TWICE"("A" FLOAT, "N" NUMBER(38,0))
returns FLOAT
language python
immutable
runtime_version = '3.11'
packages = ('pandas', 'numpy')
imports = ('@DB.TRUNKLINE.FUNCTIONS/model.zip')
handler = 'main'
as 'def main(rows):
    return ''it\\''s'' and rows[0] * 2
'
