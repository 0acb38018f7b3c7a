{{ board('destination') }}
