/* The session: its token stands in the address of the page, and is exchanged for another one in time, as long as somebody looks. */

import * as api from "./api.js";

const RENEWED_AFTER = 10 * 60_000;
const LOOKED_EVERY = 15_000;

/** Renew the session, which works for *seconds*; *ended* gets a reason when it is over. Returns when it ends, as a function. */
export function keep(seconds, ended) {
  let endsAt = Date.now() + seconds * 1000;
  let renewAt = Math.min(Date.now() + RENEWED_AFTER, endsAt - 120_000);
  let isLast = false;
  let isBusy = false;

  const look = async () => {
    if (document.hidden || isBusy) return;
    if (isLast && Date.now() >= endsAt) return stop("it was open for as long as one may be");
    if (isLast || Date.now() < renewAt) return;
    isBusy = true;
    try {
      const { reply, at } = await api.post("renew", {});
      endsAt = Date.now() + Date.parse(reply.expires_at) - at;
      renewAt = Math.min(Date.now() + RENEWED_AFTER, endsAt - 60_000);
      isLast = Date.parse(reply.expires_at) >= Date.parse(reply.renew_until);
      history.replaceState(null, "", `../${reply.token}/view${location.hash}`);
    } catch (error) {
      // Where the lab cannot be reached, or has too much to do, it is asked again until the session is over.
      if (isOver(error) || Date.now() >= endsAt) stop(error.detail ?? error.message);
    } finally {
      isBusy = false;
    }
  };
  const stop = (why) => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", look);
    ended(why);
  };
  const timer = setInterval(look, LOOKED_EVERY);
  document.addEventListener("visibilitychange", look);
  return () => new Date(endsAt);
}

/** Whether a session is over that an *error* came of. */
export const isOver = (error) => error instanceof api.Refusal && [401, 403, 404].includes(error.status);
