BEGIN TRANSACTION;
CREATE TABLE ack (
	device VARCHAR(64) NOT NULL, 
	epoch TEXT NOT NULL, 
	upto BIGINT NOT NULL, 
	also JSON NOT NULL, 
	PRIMARY KEY (device, epoch)
)
 WITHOUT ROWID

;
INSERT INTO "ack" VALUES('press-0001','ab12',1,'[]');
CREATE TABLE alert (
	alert_id TEXT NOT NULL, 
	device VARCHAR(64) NOT NULL, 
	model VARCHAR(32) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	severity VARCHAR(16) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	transition VARCHAR(16) NOT NULL, 
	opened_at BIGINT NOT NULL, 
	last_at BIGINT NOT NULL, 
	resolved_at BIGINT, 
	score FLOAT NOT NULL, 
	peak FLOAT NOT NULL, 
	threshold FLOAT NOT NULL, 
	rows INTEGER NOT NULL, 
	sensors JSON NOT NULL, 
	shares JSON NOT NULL, 
	bundle_name TEXT NOT NULL, 
	bundle_version TEXT NOT NULL, 
	bundle_sha256 VARCHAR(64) NOT NULL, 
	first_received BIGINT NOT NULL, 
	PRIMARY KEY (alert_id)
)
 WITHOUT ROWID

;
INSERT INTO "alert" VALUES('36c36945da7133b2b0ba795030f6344a','press-0001','detector','detector','warning','open','opened',1793491200000000,1793491200000000,NULL,4.0,4.0,3.0,1,'["s1"]','[0.9]','press','1','abababababababababababababababababababababababababababababababab',1793491200000000);
CREATE TABLE alert_event (
	alert_id TEXT NOT NULL, 
	transition VARCHAR(16) NOT NULL, 
	ts BIGINT NOT NULL, 
	score FLOAT NOT NULL, 
	peak FLOAT NOT NULL, 
	rows INTEGER NOT NULL, 
	sensors JSON NOT NULL, 
	shares JSON NOT NULL, 
	received BIGINT NOT NULL, 
	evidence BLOB, 
	PRIMARY KEY (alert_id, transition, ts)
)
 WITHOUT ROWID

;
INSERT INTO "alert_event" VALUES('36c36945da7133b2b0ba795030f6344a','opened',1793491200000000,4.0,4.0,1,'["s1"]','[0.9]',1793491200000000,NULL);
CREATE TABLE device (
	id VARCHAR(64) NOT NULL, 
	type VARCHAR(64), 
	first_seen BIGINT NOT NULL, 
	last_seen BIGINT NOT NULL, 
	status VARCHAR(8) NOT NULL, 
	status_since BIGINT, 
	connection TEXT, 
	connection_since BIGINT, 
	epoch TEXT, 
	agent_version TEXT, 
	bundle_name TEXT, 
	bundle_version TEXT, 
	bundle_sha256 VARCHAR(64), 
	last_ts BIGINT, 
	health_at BIGINT, 
	health JSON, 
	PRIMARY KEY (id)
)
 WITHOUT ROWID

;
INSERT INTO "device" VALUES('press-0001',NULL,1793491200000000,1793491200000000,'online',1793491200000000,'c1',1793491200000000,'ab12',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE event (
	device VARCHAR(64) NOT NULL, 
	epoch TEXT NOT NULL, 
	seq BIGINT NOT NULL, 
	type VARCHAR(16) NOT NULL, 
	time BIGINT NOT NULL, 
	received BIGINT NOT NULL, 
	data JSON NOT NULL, 
	PRIMARY KEY (device, epoch, seq)
)
 WITHOUT ROWID

;
CREATE TABLE ledger (
	device VARCHAR(64) NOT NULL, 
	epoch TEXT NOT NULL, 
	day VARCHAR(10) NOT NULL, 
	read BIGINT NOT NULL, 
	scored BIGINT NOT NULL, 
	refused JSON NOT NULL, 
	evicted BIGINT NOT NULL, 
	pending BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	at BIGINT NOT NULL, 
	PRIMARY KEY (device, epoch, day)
)
 WITHOUT ROWID

;
CREATE TABLE quarantine (
	id INTEGER NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	topic TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	payload BLOB NOT NULL, 
	received BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (sha256)
);
CREATE TABLE reading (
	device VARCHAR(64) NOT NULL, 
	ts BIGINT NOT NULL, 
	"values" JSON NOT NULL, 
	PRIMARY KEY (device, ts)
)
 WITHOUT ROWID

;
CREATE TABLE result (
	device VARCHAR(64) NOT NULL, 
	ts BIGINT NOT NULL, 
	model VARCHAR(32) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	score FLOAT, 
	threshold FLOAT NOT NULL, 
	verdict SMALLINT NOT NULL, 
	sensors JSON NOT NULL, 
	shares JSON NOT NULL, 
	bundle TEXT NOT NULL, 
	received BIGINT NOT NULL, 
	PRIMARY KEY (device, ts, model)
)
 WITHOUT ROWID

;
CREATE TABLE result_1h (
	device VARCHAR(64) NOT NULL, 
	hour BIGINT NOT NULL, 
	model VARCHAR(32) NOT NULL, 
	n INTEGER NOT NULL, 
	raised INTEGER NOT NULL, 
	unknown INTEGER NOT NULL, 
	score_max FLOAT, 
	ratio_max FLOAT, 
	PRIMARY KEY (device, hour, model)
)
 WITHOUT ROWID

;
CREATE TABLE schema_version (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "schema_version" VALUES(1);
CREATE TABLE verdict (
	id INTEGER NOT NULL, 
	alert_id TEXT NOT NULL, 
	verdict VARCHAR(16) NOT NULL, 
	note TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX alert_by_state ON alert (state, opened_at);
CREATE INDEX alert_by_device ON alert (device, opened_at);
CREATE INDEX ix_verdict_alert_id ON verdict (alert_id);
CREATE INDEX event_by_type ON event (device, type, time);
COMMIT;
