"""The process that joins brain and hands: jobs, heartbeats, settings between the gateways, control socket."""
