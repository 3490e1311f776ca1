-- API keys. The secret itself is never stored.
CREATE TABLE sluice.keys (
  id              text        COLLATE "C" CONSTRAINT keys_pkey PRIMARY KEY,
  name            text        NOT NULL,
  -- SHA-256 of the whole key. Keys have 256 random bits, so a slow hash would add no protection.
  hash            bytea       NOT NULL CONSTRAINT keys_hash UNIQUE,
  scopes          text[]      NOT NULL,
  -- The source of a record must begin with one of these. Empty: any source.
  source_prefixes text[]      NOT NULL DEFAULT '{}',
  created_at      timestamptz NOT NULL DEFAULT now(),
  expires_at      timestamptz,
  revoked_at      timestamptz,

  CONSTRAINT keys_hash_size    CHECK (octet_length(hash) = 32),
  CONSTRAINT keys_scopes_known CHECK (scopes <@ '{ingest,read,admin}' AND cardinality(scopes) > 0)
);
