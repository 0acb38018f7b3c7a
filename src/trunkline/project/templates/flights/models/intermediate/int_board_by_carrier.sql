{{ board('carrier') }}
