"""What `hub init` makes: the tables, the partitioned `entry`, the views, and who may do what.

The version is raised with every change that is not an addition. All rows are derived, so a hub of another version is
made anew beside the old one and pushed to again.
"""

from __future__ import annotations

VERSION = 1
WRITER, READER = "hub_writer", "hub_reader"
"""The roles that the logins of nodes and of readers are members of."""

WAITS = "response IN (2, 5)"
"""SQL that is true for a request that waits."""
IS_OPEN = "response BETWEEN 2 AND 4"
"""SQL that is true for a request that an answer in its own log may still be found for."""

ENTRY = """
CREATE TABLE hub.entry (
    "timestamp" float8 NOT NULL,
    byte_offset bigint NOT NULL,
    answered_after float8,
    node int NOT NULL,
    source int NOT NULL,
    line_number int NOT NULL,
    byte_length int NOT NULL,
    checksum int NOT NULL,
    context int NOT NULL,
    party int NOT NULL,
    kind int NOT NULL,
    response smallint NOT NULL,
    correlation text,
    PRIMARY KEY (node, source, byte_offset, "timestamp")
) PARTITION BY RANGE ("timestamp");
COMMENT ON COLUMN hub.entry.checksum IS 'CRC-32 of the record, less 2^31';
COMMENT ON COLUMN hub.entry.response IS '0 none; 1 answered; 2 open and waits; 3 open and expects nothing; 4 open, and answered in another log; 5 waits, and is no request';
CREATE INDEX entry_time ON hub.entry ("timestamp");
CREATE INDEX entry_party ON hub.entry (node, party, "timestamp");
CREATE INDEX entry_context ON hub.entry (node, context, "timestamp");
CREATE INDEX entry_correlation ON hub.entry (correlation) WHERE correlation IS NOT NULL;
CREATE INDEX entry_open ON hub.entry (node, source, byte_offset) WHERE response BETWEEN 2 AND 4;
CREATE INDEX entry_pending ON hub.entry ("timestamp") WHERE response IN (2, 5);
"""  # noqa: E501

FUNCTIONS = """
CREATE FUNCTION hub.me() RETURNS int LANGUAGE sql STABLE SECURITY DEFINER SET search_path = hub, pg_temp AS
$$ SELECT id FROM hub.node WHERE role = session_user::text $$;

-- The partition of a day: false where the day is closed. Not CREATE ... PARTITION OF, which would wait for readers.
CREATE FUNCTION hub.make_day(day date) RETURNS bool LANGUAGE plpgsql SECURITY DEFINER SET search_path = hub, pg_temp AS $$
DECLARE
    name text := 'entry_' || to_char(day, 'YYYYMMDD');
    first float8 := extract(epoch FROM day::timestamp);
BEGIN
    PERFORM pg_advisory_xact_lock(7301);
    IF EXISTS (SELECT 1 FROM hub.closed c WHERE c.day = make_day.day) THEN RETURN false; END IF;
    IF to_regclass('hub.' || name) IS NULL THEN
        EXECUTE format('CREATE TABLE hub.%I (LIKE hub.entry)', name);
        EXECUTE format('ALTER TABLE hub.entry ATTACH PARTITION hub.%I FOR VALUES FROM (%L) TO (%L)', name, first, first + 86400);
    END IF;
    RETURN true;
END $$;

-- The number of the node with this name, made if there is none. It belongs to the role that asks first, or to the owner
-- of the hub alone, if that is who asks.
CREATE FUNCTION hub.join_as(wanted text) RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = hub, pg_temp AS $$
DECLARE
    found hub.node;
    owns bool := (SELECT rolsuper FROM pg_roles WHERE rolname = session_user) OR session_user = current_user;
BEGIN
    LOCK TABLE hub.node IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO found FROM hub.node WHERE name = wanted;
    IF found.id IS NULL THEN
        INSERT INTO hub.node (id, name, role, epoch, checkpoint, claim, turn, retries)
        SELECT COALESCE(MAX(id), 0) + 1, wanted, CASE WHEN owns THEN NULL ELSE session_user::text END, '', 0, '', 0, 0
        FROM hub.node RETURNING * INTO found;
    ELSIF NOT owns AND found.role IS DISTINCT FROM session_user::text THEN
        RAISE EXCEPTION 'the node % belongs to another role', wanted USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN found.id;
END $$;
"""  # noqa: E501

_COLUMNS = """
    s.stem || ':' || e.byte_offset AS id, e."timestamp", k.event_type, c.session AS session_id, s.path AS file_path,
    e.line_number, e.byte_offset, c.initiating_agent, p.agents AS participating_agents, p.roles AS agent_roles,
    k.pattern AS pattern_type, c.conversation AS conversation_id, e.correlation AS correlation_id, k.is_completion,
    k.is_request, e.response IN (1, 4) AS has_response, k.requests_response"""
_JOINS = """
JOIN hub.node n ON n.id = e.node JOIN hub.source s ON (s.node, s.id) = (e.node, e.source)
JOIN hub.kind k ON (k.node, k.id) = (e.node, e.kind) JOIN hub.context c ON (c.node, c.id) = (e.node, e.context)
JOIN hub.party p ON (p.node, p.id) = (e.node, e.party)"""
_MORE = (
    "n.name AS node, k.has_author, k.addressees, k.self_place, e.answered_after, e.checksum, e.byte_length, e.response,"
    " e.node AS node_id, e.source AS source_id, e.party AS party_id"
)
_SAYS_WHO_OWNS = "('session:created', 'session:transfer', 'session:adopted')"

VIEWS = f"""
CREATE VIEW hub.ksi_index AS SELECT {_COLUMNS}, n.name AS node FROM hub.entry e {_JOINS};
CREATE VIEW hub.entries AS SELECT {_COLUMNS}, {_MORE} FROM hub.entry e {_JOINS};
CREATE VIEW hub.entries_of_agent AS SELECT a.agent, {_COLUMNS}, {_MORE} FROM hub.party_agent a
JOIN hub.entry e ON (e.node, e.party) = (a.node, a.party) {_JOINS};
CREATE VIEW hub.session_agents AS SELECT DISTINCT q.session AS session_id, q.node AS node_id, n.name AS node, p.agents
FROM (SELECT DISTINCT c.session, e.node, e.party FROM hub.context c JOIN hub.entry e ON (e.node, e.context) = (c.node, c.id)) q
JOIN hub.party p ON (p.node, p.id) = (q.node, q.party) JOIN hub.node n ON n.id = q.node;
CREATE VIEW hub.agents AS SELECT a.agent, n.name AS node, SUM(x.entries)::bigint AS entries, MIN(x.first) AS first_timestamp,
MAX(x.last) AS last_timestamp FROM (SELECT node, party, COUNT(*) AS entries, MIN("timestamp") AS first, MAX("timestamp") AS last
FROM hub.entry GROUP BY node, party) x JOIN hub.party_agent a ON (a.node, a.party) = (x.node, x.party)
JOIN hub.node n ON n.id = x.node GROUP BY a.agent, n.name;
-- One row for each session and node, as the node's own registry has it.
CREATE VIEW hub.sessions AS SELECT session_id, initiating_agent, created_at, pattern_type,
CASE WHEN any_completed THEN 'completed' ELSE 'active' END AS status, node, lives_in FROM (
    SELECT p.session_id, p.initiating_agent, p.created_at, p.pattern_type, n.name AS node, bool_or(p.is_completed) OVER w AS any_completed,
        CASE WHEN bool_and(s.archived > 0 AND s.archived >= s."offset") OVER w THEN 'archive'
             WHEN bool_or(s.archived > 0) OVER w THEN 'log, archive' ELSE 'log' END AS lives_in, ROW_NUMBER() OVER (
            PARTITION BY p.node, p.session_id ORDER BY s.layout <> 'session', p.created_at, s.path COLLATE "C") AS place
    FROM hub.session_part p JOIN (SELECT *, (counts::json ->> 'archived')::bigint AS archived FROM hub.source) s
        ON (s.node, s.id) = (p.node, p.source) JOIN hub.node n ON n.id = p.node
    WINDOW w AS (PARTITION BY p.node, p.session_id)
) x WHERE place = 1;
CREATE VIEW hub.rejected AS SELECT s.path AS file_path, r.line_number, r.byte_offset, r.byte_length, r.reason, n.name AS node
FROM hub.rejected_line r JOIN hub.source s ON (s.node, s.id) = (r.node, r.source) JOIN hub.node n ON n.id = r.node;
CREATE VIEW hub.files AS SELECT n.name AS node, s.node AS node_id, s.id AS source_id, s.path, s.stem, n.read_from
FROM hub.source s JOIN hub.node n ON n.id = s.node;
CREATE VIEW hub.lag AS SELECT n.name AS node, n.checkpoint, n.checkpoint_at, n.pushed_at,
extract(epoch FROM now() - n.pushed_at)::float8 AS behind_seconds, n.retries, n.last_error,
(SELECT COALESCE(SUM(entries), 0)::bigint FROM hub.source s WHERE s.node = n.id) AS entries FROM hub.node n;

-- What only many nodes know is never stored: the rows of the hub are those of the nodes.
CREATE VIEW hub.pending_everywhere AS SELECT * FROM hub.entries r WHERE r.{WAITS} AND (r.correlation_id IS NULL OR NOT EXISTS (
    SELECT 1 FROM hub.entry a JOIN hub.kind k ON (k.node, k.id) = (a.node, a.kind) WHERE a.correlation = r.correlation_id
    AND a.node <> r.node_id AND NOT k.is_request AND k.event_type ~ '(^|:)(result|response|error|cancelled)$'));
CREATE VIEW hub.session_owner AS SELECT DISTINCT ON (session_id) session_id, node, node_id, "timestamp" AS since, initiating_agent
FROM hub.entries WHERE event_type IN {_SAYS_WHO_OWNS}
ORDER BY session_id, "timestamp" DESC, event_type = 'session:adopted' DESC, byte_offset DESC, node_id;
-- Two nodes that adopted a session after one transfer of it, or two that both began it.
CREATE VIEW hub.session_conflicts AS WITH said AS (
    SELECT session_id, node, node_id, "timestamp", event_type, (SELECT MAX(t."timestamp") FROM hub.entries t
        WHERE t.session_id = e.session_id AND t.event_type = 'session:transfer' AND t."timestamp" <= e."timestamp") AS transferred
    FROM hub.entries e WHERE event_type IN ('session:adopted', 'session:created'))
SELECT session_id, transferred, array_agg(DISTINCT node ORDER BY node) AS nodes FROM said
GROUP BY session_id, transferred, event_type HAVING COUNT(DISTINCT node_id) > 1;
"""  # noqa: E501

ROLES = f"""
DO $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{WRITER}') THEN CREATE ROLE {WRITER}; END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{READER}') THEN CREATE ROLE {READER}; END IF;
END $$;
"""


def security(tables: list[str]) -> str:
    """SQL for who may do what: a node's role writes rows of its own node only, whatever it sends; readers read."""
    lines = [
        f"GRANT USAGE ON SCHEMA hub TO {WRITER}, {READER};",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA hub TO {READER};",
        "REVOKE ALL ON FUNCTION hub.make_day(date), hub.join_as(text), hub.me() FROM PUBLIC;",
        f"GRANT EXECUTE ON FUNCTION hub.make_day(date), hub.join_as(text), hub.me() TO {WRITER};",
        f"GRANT EXECUTE ON FUNCTION hub.me() TO {READER};",
    ]
    for table in tables:
        lines += [
            f"ALTER TABLE hub.{table} ENABLE ROW LEVEL SECURITY;",
            f"CREATE POLICY own ON hub.{table} TO {WRITER} USING (node = (SELECT hub.me()))"
            " WITH CHECK (node = (SELECT hub.me()));",
            f"CREATE POLICY look ON hub.{table} FOR SELECT TO {READER} USING (true);",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON hub.{table} TO {WRITER};",
        ]
    columns = "read_from, epoch, checkpoint, checkpoint_at, pushed_at, claim, turn, retries, last_error"
    lines += [
        "ALTER TABLE hub.node ENABLE ROW LEVEL SECURITY;",
        f"CREATE POLICY own ON hub.node TO {WRITER} USING (role = session_user::text)"
        " WITH CHECK (role = session_user::text);",
        f"CREATE POLICY look ON hub.node FOR SELECT TO {READER} USING (true);",
        f"GRANT SELECT, UPDATE ({columns}) ON hub.node TO {WRITER};",
        f"GRANT SELECT ON hub.closed, hub.meta TO {WRITER};",
    ]
    return "\n".join(lines)
