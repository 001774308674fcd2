"""The explorer: one or more runs as pages of a local web server, with a place for what people say of them."""
