"""Who lives in the demo's world, and what they say to each other."""

from __future__ import annotations

SILENT = "oracle"
"""The agent that everybody asks sooner or later, and that never answers."""

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
"""What one is in a team by trade."""

OFFICES = ("coordinator", "phase_lead", "pipeline_orchestrator", "arbiter")
"""What one becomes for a while."""

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
