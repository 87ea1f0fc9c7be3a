-- The output tokens of an answer as decimal numbers, a space before each: an answer that ended too early goes on at its exact token.
-- Ids, not text: cut anywhere else, the same text can be other tokens.
ALTER TABLE message ADD COLUMN token_ids TEXT NOT NULL DEFAULT '';
