from flask.cli import AppGroup
cluster = AppGroup("cluster")
