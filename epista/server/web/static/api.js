/* Questions to the lab. Addresses are relative to that of the page, in which the token stands, so they follow its renewals. */

export class Refusal extends Error {
  constructor(status, problem) {
    super([problem.detail, problem.hint].filter(Boolean).join("; ") || `the lab answered ${status}`);
    this.status = status;
    this.detail = problem.detail ?? this.message;
  }
}

export const get = (name) => ask(name, {});

export const post = (name, body) =>
  ask(name, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/** Return why *address* is refused, or null if it is not. */
export async function refusal(address) {
  const answer = await fetch(address);
  return answer.ok ? null : refused(answer);
}

async function ask(name, options) {
  const answer = await fetch(name, options);
  if (!answer.ok) throw await refused(answer);
  return { reply: await answer.json(), at: Date.parse(answer.headers.get("Date")) || Date.now() };
}

async function refused(answer) {
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // Not from the lab itself, but from what stands before it.
  }
  return new Refusal(answer.status, problem);
}
