"""The sample application: a small gateway firmware, a lab to run two of them in, and a page that shows the lab."""
