"""A trained model as files: signature, encoder, bundle, runtime. Nothing here is ever unpickled."""
