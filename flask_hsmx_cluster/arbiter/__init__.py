"""The arbiter: a third party, on etcd, that gateways ask when they do not hear each other. See docs/arbiter.md."""
