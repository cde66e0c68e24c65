-- Prefect searches names by trigrams; run once in its database, as a superuser.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
