// The replicas that share the journal; a journal in a file has none.

const myName = (found) => `${found.host}:${found.pid}`;
const ownShards = (found) => found.shards.filter((one) => one.owner === myName(found));
const isShared = (found) => Boolean(found.shards?.length || found.older_replicas?.length);
/** True if others have the whole journal, and this replica could take over. */
const standsBy = (found) => isShared(found) && !ownShards(found).length;

const owned = (shards) => {
  const numbers = shards.map((one) => one.shard).join(", ");
  return `shard${shards.length > 1 ? "s" : ""} ${numbers}`;
};

const role = (found) => {
  const mine = ownShards(found);
  const me = el("strong", {}, myName(found));
  if (found.older_replicas.length) {
    return el("p", {}, "This replica, ", me, ", stands by until replicas of an older release have stopped: ",
      `${found.older_replicas.join(", ")}. Then it upgrades the journal's tables.`);
  }
  if (!mine.length) {
    return el("p", {}, "This replica, ", me, ", stands by: others read and deliver. It takes over when an owner stops.");
  }
  return el("p", {}, "This replica, ", me, `, owns ${owned(mine)} of ${found.shards.length}. `,
    mine.length < found.shards.length ? "Streams, sinks and losses below are of these shards." : "");
};

const free = (found) => {
  const shards = found.shards.filter((one) => !one.owner);
  return shards.length
    ? el("p", { class: "trouble" }, `Nobody owns ${owned(shards)}: their accounts are not read.`) : null;
};

const statusPage = (one) => (/^https?:\/\//.test(one.admin_url)
  ? el("a", { href: one.admin_url, rel: "noreferrer" }, one.admin_url) : "");

const fleet = (found) => {
  document.getElementById("fleet-section").hidden = !isShared(found);
  if (!isShared(found)) return;
  const lost = found.lost_replicas.map((one) => ({ ...one, lost: true }));
  const replicas = [...lost, ...found.replicas];
  show("fleet", [found.shards, replicas, found.older_replicas], () => [
    role(found), free(found),
    !replicas.length ? null : table("Every replica", [
      ["Replica", (one) => one.name === myName(found) ? `${one.name} (this one)` : one.name],
      ["State", (one) => el("span", { class: `pill ${one.lost ? "bad" : one.shards.length ? "good" : ""}` },
        one.lost ? "lost" : one.shards.length ? "works" : "stands by")],
      ["Shards", (one) => one.shards.join(", ")],
      ["Since", (one) => found.shards.filter((shard) => shard.owner === one.name)
        .map((shard) => shard.since).sort().slice(-1).map(time)],
      ["Last seen", (one) => `${duration(one.seen_seconds)} ago`],
      ["Version", (one) => one.version],
      ["Started", (one) => one.since && time(one.since)],
      ["Status page", statusPage],
    ], replicas),
  ]);
};
