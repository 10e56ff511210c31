-- The image of PostgreSQL makes the database of the operations store itself; these are made beside it, once.
CREATE DATABASE mlflow;
CREATE DATABASE prefect;
