{# dbt writes CREATE FUNCTION for functions/*.py on Snowflake, but dbt-duckdb has no such macro yet, so this project
   brings it: dbt finds it by its name. The plugin trunkline.transform.functions (see profiles.yml) has registered the
   Python code as __py_<name>; this gives it its SQL name and its declared types in the lake. #}
{% macro duckdb__scalar_function_python(target_relation) %}
create or replace macro {{ target_relation.render() }} ({% for a in model.arguments %}{{ a.name }}{{ ", " if not loop.last }}{% endfor %}) as
  cast(__py_{{ model.name }}({% for a in model.arguments %}cast({{ a.name }} as {{ a.data_type }}){{ ", " if not loop.last }}{% endfor %}) as {{ model.returns.data_type }})
{% endmacro %}
