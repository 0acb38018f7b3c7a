{{ board('origin') }}
