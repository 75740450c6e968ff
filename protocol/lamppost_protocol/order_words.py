"""An order's verb, state and reason as people read them. WIRE.md sections 5.2 and 6. Apart, so that a node need not hold them."""

from . import orders, releases

VERBS = {
    orders.LEVEL: "level",
    orders.CANCEL: "cancel",
    orders.SCHEDULE: "schedule",
    orders.CONFIGURE: "configure",
    orders.RESEND: "resend",
    orders.UPDATE: "update",
}

STATES = {
    orders.QUEUED: "queued",
    orders.SENT: "sent",
    orders.ACCEPTED: "accepted",
    orders.APPLIED: "applied",
    orders.VERIFIED: "verified",
    orders.REVERTED: "reverted",
    orders.EXPIRED: "expired",
    orders.REFUSED: "refused",
}

REASONS = {
    orders.NO_REASON: "",
    orders.SUPERSEDED: "superseded",
    orders.CLOCK_NEVER_SET: "clock_never_set",
    orders.TOO_LATE: "too_late",
    orders.UNKNOWN_VERB: "unknown_verb",
    orders.UNKNOWN_TARGET: "unknown_target",
    orders.BAD_ARGUMENTS: "bad_arguments",
    orders.SAFE_MODE: "safe_mode",
    orders.UNVERIFIED_POWER: "unverified_power",
    orders.METER_MISSING: "meter_missing",
    orders.CANCELLED: "cancelled",
    orders.LEASE_ENDED: "lease_ended",
    orders.STORE_FAULT: "store_fault",
    orders.LAMP_FAULT: "lamp_fault",
    orders.ONLY_BY_CABLE: "only_by_cable",
    releases.WRONG_BASE: "wrong_base",
    releases.DOWNGRADE: "downgrade",
    releases.NO_ROOM: "no_room",
    releases.BAD_RELEASE: "bad_release",
    releases.TRIAL_FAILED: "trial_failed",
    releases.NOT_FETCHED: "not_fetched",
    releases.NO_LINE: "no_line",
}
