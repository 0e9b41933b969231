"""A small world of agents, as a stream of acts. No input or output; the same seed gives the same acts.

Scenes run concurrently: one agent looks for peers and talks with one it found; a team forms, assigns its roles and
takes them back; an agent asks all others and gets many answers; and some requests are never answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

SILENT = "oracle"
"""An agent that is asked now and then, and never answers."""
NAMES = (
    *("scout", "analyst", "coder", "critic", "planner", "tester", "writer", "designer", "editor", "linguist"),
    *("archivist", "broker", "reviewer", "pilot", "surveyor", "mediator", "courier", "gardener", "historian"),
    *("inspector", "jurist", "keeper", "navigator"),
)
"""No two begin with the same three letters."""
SKILLS = (
    *("sentiment analysis", "entity extraction", "old log formats", "tides and currents", "time series"),
    *("plain English", "graph layout", "property tests", "cartography", "rate limits", "bird songs"),
)
PROJECTS = (
    *("customer analysis", "the harbour map", "a quieter pager", "the release notes", "migration of the archive"),
    *("the night shift", "a faster build", "the field guide"),
)
ROLES = ("data_analyst", "visualizer", "researcher", "builder", "proofreader", "tester", "scribe", "messenger")
"""Roles of the members of a team."""
OFFICES = ("coordinator", "phase_lead", "pipeline_orchestrator", "arbiter")
"""Roles that a member has for a while."""
TASKS = (
    *("Could you look at the outliers?", "Please draw this as a map.", "Does the second half hold?"),
    *("Which of the three would you take?", "Can this be said in one sentence?", "Where does this number come from?"),
    *("Please try it with an empty file.", "What would break first?", "Is the summary fair?"),
)
REPLIES = (
    *("Done. There were three, and two are the same.", "Here it is; mind the legend.", "It holds, with one exception."),
    *("The second, for its plainness.", "Yes: nobody had asked before.", "From a table that nobody had dated."),
    *("It survives, to my surprise.", "The part we are proudest of.", "Fair, but two pages too long."),
    *("Give me the older version as well.", "I would rather measure first.", "Agreed, with a footnote."),
)
CALLS = (
    *("All hands: where does your part stand?", "Everybody: may we freeze the schema tonight?"),
    *("A show of hands: rewrite, or repair?", "Who needs the test machine before noon?"),
)
STANDS = (
    *("Ready when you are.", "One more hour, please.", "Repair. Always repair.", "Frozen on my side."),
    *("I need it until eleven.", "Half done, and the better half.", "No objection.", "Waiting for a review."),
)
RIDDLES = (
    *("What does the index not know?", "How many lines are enough?", "Which of us will be asked last?"),
    *("Is a log that nobody reads still a log?", "When will the backlog be empty?", "What was here before the root?"),
)
REMINDERS = ("Are you there?", "I ask again, with all respect.", "Only a yes or a no would do.")
LOST = (
    *("Does anybody still have the key to the cold archive?", "Whose process is number 4711?"),
    *("Has anyone seen the second half of this line?", "Who was it that asked for this report?"),
)


class Begin(NamedTuple):
    """A session begins."""

    session: str
    agent: str
    pattern: str
    is_held: bool
    """The agent writes the session itself, under its own lock; otherwise the daemon does."""


class Say(NamedTuple):
    """A record in a session."""

    session: str
    record: dict[str, Any]


class Happen(NamedTuple):
    """An event, in a file of its own."""

    record: dict[str, Any]


class End(NamedTuple):
    """A session is over."""

    session: str
    agent: str


Act = Begin | Say | Happen | End
"""Each writes one record."""


class World:
    """The agents and their scenes."""

    def __init__(self, agents: int, seed: int, name: str = "demo") -> None:
        """`name` begins the ids of all sessions, teams and requests."""
        self.agents = (*NAMES[: agents - 1], SILENT)
        self.is_closing = False
        """No new scene begins: the acts end when the current scenes have ended."""
        self._name = name
        self._random = Random(seed)
        self._sessions = self._requests = 0

    def acts(self) -> Iterator[Act]:
        """All acts, without end until `is_closing` is set."""
        for agent in self.agents:
            yield Happen(_event("agent:spawn", agent))
        first: list[Callable[[], Iterator[Act]]] = [self._discovery, self._team, self._riddle, self._call, self._lost]
        # Discoveries and teams are twice as frequent as the others.
        usual = [self._discovery, self._discovery, self._team, self._team, self._call, self._riddle, self._lost]
        at_play: list[Iterator[Act]] = []
        while True:
            while not self.is_closing and len(at_play) < max(3, len(self.agents) // 2):
                at_play.append(first.pop(0)() if first else self._random.choice(usual)())
            if not at_play:
                break
            scene = self._random.choice(at_play)
            act = next(scene, None)
            if act is None:
                at_play.remove(scene)
            else:
                yield act
        for agent in self.agents:
            yield Happen(_event("agent:terminate", agent))

    # ---- scenes

    def _discovery(self) -> Iterator[Act]:
        """An agent looks for a skill, some have it, and it talks with one of them."""
        asker, *others = self._some(4)
        session = self._session("discovery")
        skill = self._random.choice(SKILLS)
        yield Begin(session, asker, "peer_discovery", is_held=True)
        search = self._request(asker, f"Looking for agents who know {skill}.", pattern="peer_discovery", broadcast=True)
        yield Say(session, search)
        found = others[: self._random.randint(1, len(others))]
        for peer in found:
            yield Say(session, _answer(search, peer, f"I know {skill}.", capabilities=[skill]))
        yield from self._talk(session, asker, self._random.choice(found), self._random.randint(2, 4))
        yield End(session, asker)

    def _team(self) -> Iterator[Act]:
        """A team forms; one or two of its members get a leading role for a while and return to their own."""
        lead, *others = self._some(5)
        session, project = self._session("team"), self._random.choice(PROJECTS)
        team = session.replace("_team_", "_crew_")
        yield Begin(session, lead, "team_formation", is_held=False)
        call = self._request(lead, f"Forming a team for {project}.", pattern="team_formation", team_id=team)
        yield Say(session, call)
        trades = dict(zip((lead, *others), self._random.sample(ROLES, 1 + len(others)), strict=True))
        for member in others:
            joined = f"Joining as {trades[member].replace('_', ' ')}."
            yield Say(session, _answer(call, member, joined, role=trades[member], team_id=team))
        yield Happen(_event("team:formed", lead, team_id=team, participants=[lead, *others]))
        for holder in self._random.sample([lead, *others], self._random.randint(1, 2)):
            office, trade = self._random.choice(OFFICES), trades[holder]
            members = [one for one in (lead, *others) if one != holder]
            yield Say(session, _turn(holder, members, "Taking the lead here.", (trade, office), team))
            for member in members:
                yield from self._talk(session, holder, member, 1, team_id=team)
            yield Say(session, _turn(holder, members, "This part is done.", (office, trade), team))
        yield End(session, lead)

    def _call(self) -> Iterator[Act]:
        """An agent asks all others, and all but the silent one answer."""
        caller, *others = self._some(len(self.agents))
        session = self._session("call")
        yield Begin(session, caller, "broadcast", is_held=False)
        call = self._request(caller, self._random.choice(CALLS), broadcast=True)
        yield Say(session, call)
        for agent in others:
            yield Say(session, _answer(call, agent, self._random.choice(STANDS)))
        yield End(session, caller)

    def _riddle(self) -> Iterator[Act]:
        """An agent asks the silent one, once or several times."""
        (asker,) = self._some(1)
        session = self._session("riddle")
        yield Begin(session, asker, "peer_to_peer", is_held=False)
        for text in (self._random.choice(RIDDLES), *REMINDERS[: self._random.randint(0, 2)]):
            yield Say(session, self._request(asker, text, to_agent=SILENT))

    def _lost(self) -> Iterator[Act]:
        """A question to nobody in particular is never answered, while two agents talk."""
        asker, peer = self._some(2)
        session = self._session("lost")
        yield Begin(session, asker, "general", is_held=False)
        yield Say(session, self._request(asker, self._random.choice(LOST)))
        yield from self._talk(session, asker, peer, 2)

    # ---- parts of scenes

    def _talk(self, session: str, asker: str, peer: str, turns: int, **more: Any) -> Iterator[Act]:
        for _ in range(turns):
            request = self._request(asker, self._random.choice(TASKS), to_agent=peer, **more)
            yield Say(session, request)
            yield Say(session, _answer(request, peer, self._random.choice(REPLIES), **more))

    def _request(self, agent: str, prompt: str, **more: Any) -> dict[str, Any]:
        self._requests += 1
        data = {"prompt": prompt, "agent_id": agent, **more}
        return {"event": "completion:request", "data": data, "correlation_id": f"{self._name}_req_{self._requests}"}

    def _session(self, kind: str) -> str:
        self._sessions += 1
        return f"{self._name}_{kind}_{self._sessions:03}"

    def _some(self, count: int) -> list[str]:
        """A random choice of agents, without the silent one."""
        return self._random.sample(self.agents[:-1], min(count, len(self.agents) - 1))


def _answer(request: dict[str, Any], agent: str, response: str, **more: Any) -> dict[str, Any]:
    data = {"response": response, "agent_id": agent, **more}
    return {"event": "completion:result", "data": data, "correlation_id": request["correlation_id"]}


def _turn(who: str, members: list[str], text: str, change: tuple[str, str], team: str) -> dict[str, Any]:
    """A record of a change of roles, addressed to the members of a team. It needs no answer."""
    context = {"role_transition": {"from": change[0], "to": change[1]}}
    data = {"prompt": text, "agent_id": who, "to_agents": members, "team_id": team, "context": context}
    return {"event": "completion:notice", "data": data}


def _event(event: str, agent: str, **more: Any) -> dict[str, Any]:
    return {"event": event, "data": {"agent_id": agent, **more}}
