-- Dump of a journal as the first version made it, from its own program: twelve lines read, two of them refused, ten
-- results, two unsent alerts and a gap queued; the cloud had acknowledged 1, 2 and 4, and number 9 had gone out.
BEGIN TRANSACTION;
CREATE TABLE ledger (
    day TEXT PRIMARY KEY, read INTEGER NOT NULL DEFAULT 0, scored INTEGER NOT NULL DEFAULT 0,
    evicted INTEGER NOT NULL DEFAULT 0, told TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
INSERT INTO "ledger" VALUES('2026-01-17',12,3,0,'');
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('epoch','5a349d65d284a280');
INSERT INTO "meta" VALUES('last_alert','{"alert_id": "a7", "transition": "opened", "model": "detector", "ts": "2026-01-17T00:07:00Z", "sensors": ["s1"]}');
INSERT INTO "meta" VALUES('progress','{"position": "{\"offset\": 100}", "rewind": "{\"offset\": 0}", "newest": 1768608000000000, "alerts": {"detector": {"above": 3, "below": 0, "first_above": null, "opened": 1768608000000000, "peak": 4.5, "told": 4.5, "rows": 3}}}');
INSERT INTO "meta" VALUES('sent','9');
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, time TEXT NOT NULL, day TEXT NOT NULL,
    data TEXT NOT NULL);
INSERT INTO "outbox" VALUES(3,'result','2026-11-26T01:30:57.067670Z','2026-01-17','{"ts": "2026-01-17T00:02:00Z", "bundle": "press/1", "scores": []}');
INSERT INTO "outbox" VALUES(5,'result','2026-11-26T01:30:57.067670Z','2026-01-17','{"ts": "2026-01-17T00:04:00Z", "bundle": "press/1", "scores": []}');
INSERT INTO "outbox" VALUES(6,'alert','2026-11-26T01:30:57.067670Z','2026-01-17','{"alert_id": "a3", "transition": "opened", "model": "detector", "ts": "2026-01-17T00:03:00Z", "sensors": ["s1"], "evidence": null}');
INSERT INTO "outbox" VALUES(7,'result','2026-11-26T01:30:57.067670Z','2026-01-17','{"ts": "2026-01-17T00:05:00Z", "bundle": "press/1", "scores": []}');
INSERT INTO "outbox" VALUES(8,'result','2026-11-26T01:30:57.067670Z','2026-01-17','{"ts": "2026-01-17T00:06:00Z", "bundle": "press/1", "scores": []}');
INSERT INTO "outbox" VALUES(9,'result','2026-11-26T01:30:57.067670Z','2026-01-17','{"ts": "2026-01-17T00:07:00Z", "bundle": "press/1", "scores": []}');
INSERT INTO "outbox" VALUES(10,'result','2026-11-26T01:30:57.067670Z','2026-01-17','{"ts": "2026-01-17T00:08:00Z", "bundle": "press/1", "scores": []}');
INSERT INTO "outbox" VALUES(11,'result','2026-11-26T01:30:57.067670Z','2026-01-17','{"ts": "2026-01-17T00:09:00Z", "bundle": "press/1", "scores": []}');
INSERT INTO "outbox" VALUES(12,'alert','2026-11-26T01:30:57.067670Z','2026-01-17','{"alert_id": "a7", "transition": "opened", "model": "detector", "ts": "2026-01-17T00:07:00Z", "sensors": ["s1"], "evidence": null}');
INSERT INTO "outbox" VALUES(13,'gap','2026-11-26T01:30:57.082466Z','2026-01-17','{"reason":"log_truncated","detail":"5 lines","start":null,"end":null,"lines":5}');
CREATE TABLE refused (
    day TEXT NOT NULL, reason TEXT NOT NULL, lines INTEGER NOT NULL, PRIMARY KEY (day, reason)) WITHOUT ROWID;
INSERT INTO "refused" VALUES('2026-01-17','columns',2);
CREATE TABLE reject (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
    line BLOB NOT NULL);
INSERT INTO "reject" VALUES(1,'2026-11-26T01:30:57.067670Z','columns','2 fields',X'612C62');
INSERT INTO "reject" VALUES(2,'2026-11-26T01:30:57.067670Z','columns','2 fields',X'612C62');
CREATE INDEX outbox_results ON outbox (day) WHERE event = 'result';
CREATE INDEX outbox_others ON outbox (event, seq) WHERE event <> 'result';
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('outbox',13);
INSERT INTO "sqlite_sequence" VALUES('reject',2);
COMMIT;
PRAGMA user_version = 1;
