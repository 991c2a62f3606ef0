"""The blueprint: pages, REST API, and the endpoints for the other gateway."""
