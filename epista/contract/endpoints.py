"""
Endpoints as data: what can be asked, and how it is spelt in HTTP.

A row is the whole truth about an endpoint: the client calls it, the server binds it to the service method of the same
name, tests walk all of them, and the reference and the OpenAPI document are generated from them. Fields of the request that
stand in the path travel there; the others are query parameters of GET, HEAD and DELETE, and a JSON object otherwise. A
*raw* row moves bytes: its body (in, out or both) is not a message.
"""

from __future__ import annotations

from typing import NamedTuple

from epista.contract import (
    assets,
    audit,
    conventions,
    experiments,
    images,
    lineage,
    linked,
    links,
    messages,
    objects,
    previews,
    projects,
    queries,
    reindexing,
    sequences,
    signing_keys,
    tables,
    tokens,
    uploads,
    usage,
    workspaces,
)

API = "/api/v1"
"""Where every endpoint begins."""


class Endpoint(NamedTuple):
    """One row."""

    name: str
    """``noun.verb``: the service that answers, and what the audit log calls the act."""
    method: str
    """GET, POST, PUT or DELETE; GET also answers HEAD where bytes are downloaded."""
    path: str
    """Below the server's address."""
    scope: str | None
    """What the token must allow; ``any`` for every valid token; None for no token at all."""
    request: type[messages.Request]
    """What is asked."""
    reply: type[messages.Reply] | None
    """What is answered, or None for bytes."""
    raw: str = ""
    """``up`` if the body of the request is bytes, ``down`` if that of the reply is."""
    retry: str = "key"
    """``safe``: asking twice does no more than asking once. ``key``: so with an ``Idempotency-Key``, under which the server
    keeps the reply for a day. ``never``: the reply has a secret, which nobody keeps, or takes too long to be repeated."""


_WS = API + "/workspaces/{workspace}"

ENDPOINTS = (
    Endpoint("tokens.who", "GET", API + "/me", "any", tokens.WhoAmI, tokens.Me, retry="safe"),
    Endpoint("tokens.create", "POST", API + "/tokens", "tokens", tokens.CreateToken, tokens.NewToken, retry="never"),
    Endpoint("tokens.find", "GET", API + "/tokens", "tokens", tokens.ListTokens, tokens.Tokens, retry="safe"),
    Endpoint("tokens.revoke", "DELETE", API + "/tokens/{id}", "tokens", tokens.RevokeToken, messages.Done, retry="safe"),
    Endpoint("tokens.renew", "POST", API + "/tokens/renew", None, tokens.RenewToken, tokens.NewToken, retry="safe"),
    Endpoint("tokens.sign_in", "POST", API + "/sign-in", None, tokens.SignIn, tokens.NewToken, retry="never"),
    Endpoint("workspaces.create", "POST", API + "/workspaces", "lab", workspaces.CreateWorkspace, workspaces.Workspace),
    Endpoint("workspaces.find", "GET", API + "/workspaces", "any", workspaces.ListWorkspaces, workspaces.Workspaces, retry="safe"),
    Endpoint("workspaces.get", "GET", _WS, "any", workspaces.GetWorkspace, workspaces.Workspace, retry="safe"),
    Endpoint("workspaces.add_member", "POST", _WS + "/members", "admin", workspaces.AddMember, workspaces.Member, retry="never"),
    Endpoint("workspaces.members", "GET", _WS + "/members", "admin", workspaces.ListMembers, workspaces.Members, retry="safe"),
    Endpoint("workspaces.remove_member", "DELETE", _WS + "/members/{user}", "admin", workspaces.RemoveMember, messages.Done, retry="safe"),
    Endpoint("workspaces.set_rules", "PUT", _WS + "/rules", "admin", workspaces.SetRules, workspaces.Rules),
    Endpoint("workspaces.rules", "GET", _WS + "/rules", "read", workspaces.ShowRules, workspaces.Rules, retry="safe"),
    Endpoint("workspaces.check_rules", "GET", _WS + "/rules/check", "admin", workspaces.CheckRules, workspaces.RuleBreaks, retry="safe"),
    Endpoint("conventions.set", "PUT", _WS + "/conventions", "admin", conventions.SetConventions, conventions.Conventions),
    Endpoint("conventions.get", "GET", _WS + "/conventions", "read", conventions.ShowConventions, conventions.Conventions, retry="safe"),
    Endpoint("conventions.explain", "GET", _WS + "/conventions/explain", "read", conventions.ExplainName, conventions.NameReadings, retry="safe"),
    Endpoint("experiments.create", "POST", _WS + "/experiments", "write", experiments.CreateExperiment, experiments.Experiment),
    Endpoint("experiments.find", "GET", _WS + "/experiments", "read", experiments.ListExperiments, experiments.Experiments, retry="safe"),
    Endpoint("experiments.get", "GET", _WS + "/experiments/{name}", "read", experiments.GetExperiment, experiments.Experiment, retry="safe"),
    Endpoint("experiments.resolve", "GET", _WS + "/experiment", "read", experiments.ResolveExperiment, experiments.Experiment, retry="safe"),
    Endpoint("experiments.members", "GET", _WS + "/experiment/members", "read", experiments.ListExperimentMembers, experiments.ExperimentMembers, retry="safe"),
    Endpoint("experiments.update", "POST", _WS + "/experiments/{name}", "write", experiments.UpdateExperiment, experiments.Experiment),
    Endpoint("experiments.rename", "POST", _WS + "/experiments/{name}/rename", "write", experiments.RenameExperiment, experiments.Experiment),
    Endpoint("experiments.roles", "GET", _WS + "/experiments/{name}/roles", "read", experiments.ListExperimentRoles, experiments.ExperimentRoles, retry="safe"),
    Endpoint("experiments.set_role", "POST", _WS + "/experiments/{name}/roles", "write", experiments.SetExperimentRole, experiments.ExperimentRoles, retry="safe"),
    Endpoint("projects.create", "POST", _WS + "/projects", "write", projects.CreateProject, projects.Project),
    Endpoint("projects.find", "GET", _WS + "/projects", "read", projects.ListProjects, projects.Projects, retry="safe"),
    Endpoint("projects.get", "GET", _WS + "/projects/{name}", "read", projects.GetProject, projects.Project, retry="safe"),
    Endpoint("projects.update", "POST", _WS + "/projects/{name}", "write", projects.UpdateProject, projects.Project),
    Endpoint("projects.remove", "DELETE", _WS + "/projects/{name}", "write", projects.RemoveProject, messages.Done, retry="safe"),
    Endpoint("assets.keys", "GET", _WS + "/keys", "read", assets.ListKeys, None, raw="down", retry="safe"),
    Endpoint("assets.level", "GET", _WS + "/level", "read", assets.ListLevel, assets.Level, retry="safe"),
    Endpoint("assets.find", "GET", _WS + "/assets", "read", assets.FindAssets, assets.AssetPage, retry="safe"),
    Endpoint("assets.get", "GET", _WS + "/asset", "read", assets.GetAsset, assets.Asset, retry="safe"),
    Endpoint("assets.versions", "GET", _WS + "/versions", "read", assets.ListVersions, assets.Versions, retry="safe"),
    Endpoint("assets.version", "GET", _WS + "/version", "read", assets.GetVersion, assets.Version, retry="safe"),
    Endpoint("assets.search", "GET", _WS + "/search", "read", assets.SearchAssets, assets.Hits, retry="safe"),
    Endpoint("previews.get", "GET", _WS + "/preview", "read", previews.GetPreview, previews.Preview, retry="safe"),
    Endpoint("sequences.locate", "GET", _WS + "/sequence", "read", sequences.LocateRegion, sequences.Region, retry="safe"),
    Endpoint("images.open", "POST", _WS + "/tiles", "read", images.OpenTiles, images.TileSession, retry="never"),
    Endpoint("images.renew", "POST", images.TILES + "/{token}/renew", None, images.RenewTiles, images.TileSession, retry="never"),
    Endpoint("images.info", "GET", images.TILES + "/{token}/info", None, images.DescribeImage, images.ImageInfo, retry="safe"),
    Endpoint("images.region", "GET", images.TILES + "/{token}/region", None, images.ReadRegion, None, raw="down", retry="safe"),
    Endpoint("images.annotations", "GET", images.TILES + "/{token}/annotations", None, images.FindAnnotations, None, raw="down", retry="safe"),
    Endpoint("images.thumbnail", "GET", images.TILES + "/{token}/thumbnail", None, images.DrawThumbnail, None, raw="down", retry="safe"),
    Endpoint("images.rendering", "GET", images.TILES + "/{token}/rendering", None, images.GetRendering, images.ImageRendering, retry="safe"),
    Endpoint("images.iiif", "GET", images.IIIF + "/{image}", None, images.OpenPicture, None, raw="down", retry="safe"),
    Endpoint("images.iiif_info", "GET", images.IIIF + "/{image}/info.json", None, images.DescribePicture, None, raw="down", retry="safe"),
    Endpoint("images.iiif_picture", "GET", images.IIIF + "/{image}/{region}/{size}/{rotation}/{name}", None, images.DrawPicture, None, raw="down", retry="safe"),
    Endpoint("images.zarr", "GET", images.TILES + "/{token}/zarr/{format}/{image}/{key}", None, images.ReadZarr, None, raw="down", retry="safe"),
    Endpoint("lineage.get", "GET", _WS + "/lineage", "read", lineage.GetLineage, lineage.Graph, retry="safe"),
    Endpoint("queries.run", "POST", _WS + "/queries", "read", queries.RunQuery, None, raw="down", retry="safe"),
    Endpoint("queries.find", "GET", _WS + "/queries", "read", queries.FindQueries, queries.Queries, retry="safe"),
    Endpoint("queries.get", "GET", _WS + "/queries/{id}", "read", queries.GetQuery, queries.Query, retry="safe"),
    Endpoint("queries.cancel", "DELETE", _WS + "/queries/{id}", "read", queries.CancelQuery, messages.Done, retry="safe"),
    Endpoint("objects.upload", "POST", _WS + "/blobs", "write", objects.UploadBlob, objects.Blob, raw="up", retry="safe"),
    Endpoint("objects.missing", "POST", _WS + "/blobs/missing", "write", objects.MissingBlobs, objects.Missing, retry="safe"),
    Endpoint("objects.stage", "POST", _WS + "/blobs/stage", "write", objects.StageBlob, objects.Stage, retry="safe"),
    Endpoint("objects.take_staged", "POST", _WS + "/blobs/take", "write", objects.TakeStaged, objects.Blob),
    Endpoint("objects.locate", "GET", _WS + "/versions/{version}/location", "read", objects.LocateBlob, objects.Location, retry="safe"),
    Endpoint("objects.content", "GET", _WS + "/versions/{version}/content", "read", objects.ReadContent, None, raw="down", retry="safe"),
    Endpoint("objects.commit", "POST", _WS + "/objects", "write", objects.CommitObjects, objects.Assets),
    Endpoint("frames.send", "POST", _WS + "/frames", "write", objects.SendFrame, objects.Framed, raw="up"),
    Endpoint("batches.commit", "POST", _WS + "/batches/commit", "write", objects.CommitBatch, None, raw="down", retry="safe"),
    Endpoint("frames.read", "POST", _WS + "/frames/read", "read", objects.ReadFrames, None, raw="down", retry="safe"),
    Endpoint("linked.add", "POST", _WS + "/linked", "admin", linked.LinkFiles, linked.LinkedFiles, retry="safe"),
    Endpoint("objects.set_meta", "POST", _WS + "/metadata", "write", objects.SetMetadata, assets.Asset),
    Endpoint("objects.delete", "POST", _WS + "/delete", "write", objects.DeleteAsset, assets.Asset),
    Endpoint("objects.delete_dir", "POST", _WS + "/delete-folder", "write", objects.DeleteFolder, objects.Keys),
    Endpoint("objects.restore", "POST", _WS + "/restore", "write", objects.RestoreAsset, assets.Asset),
    Endpoint("objects.purge", "POST", _WS + "/purge", "admin", objects.PurgeVersions, objects.Purged),
    Endpoint("objects.copy", "POST", _WS + "/copy", "write", objects.CopyObjects, objects.Assets),
    Endpoint("objects.move", "POST", _WS + "/move", "write", objects.MoveObjects, objects.Assets),
    Endpoint("tables.append", "POST", _WS + "/tables/append", "write", tables.AppendRows, assets.Asset),
    Endpoint("tables.join", "POST", _WS + "/tables/join", "read", tables.JoinTable, objects.Blob, retry="safe"),
    Endpoint("uploads.create", "POST", _WS + "/uploads", "write", uploads.CreateUpload, uploads.Upload),
    Endpoint("uploads.find", "GET", _WS + "/uploads", "write", uploads.FindUploads, uploads.Uploads, retry="safe"),
    Endpoint("uploads.get", "GET", _WS + "/uploads/{upload}", "write", uploads.GetUpload, uploads.UploadParts, retry="safe"),
    Endpoint("uploads.put_part", "PUT", _WS + "/uploads/{upload}/parts/{number}", "write", uploads.PutPart, uploads.Part, raw="up", retry="safe"),
    Endpoint("uploads.sign_part", "POST", _WS + "/uploads/{upload}/address", "write", uploads.SignPart, uploads.PartAddress, retry="safe"),
    Endpoint("uploads.take_part", "POST", _WS + "/uploads/{upload}/taken", "write", uploads.TakePart, uploads.Part, retry="safe"),
    Endpoint("uploads.complete", "POST", _WS + "/uploads/{upload}/complete", "write", uploads.CompleteUpload, uploads.CompletedUpload, retry="safe"),
    Endpoint("uploads.abort", "DELETE", _WS + "/uploads/{upload}", "write", uploads.AbortUpload, messages.Done, retry="safe"),
    Endpoint("links.create", "POST", _WS + "/links", "read", links.CreateLink, links.Link, retry="safe"),
    Endpoint("links.open", "GET", API + "/links/{link}/{name}", None, links.OpenLink, None, raw="down", retry="safe"),
    Endpoint("usage.get", "GET", _WS + "/usage", "read", usage.ReadUsage, usage.Usage, retry="safe"),
    Endpoint("usage.set_quota", "PUT", API + "/lab/quotas/{name}", "lab", usage.SetQuota, messages.Done),
    Endpoint("usage.of_lab", "GET", API + "/lab/usage", "lab", usage.ReadLabUsage, usage.LabUsage, retry="safe"),
    Endpoint("audit.find", "GET", _WS + "/audit", "admin", audit.ReadAudit, audit.AuditPage, retry="safe"),
    Endpoint("audit.verify", "GET", _WS + "/audit/verify", "admin", audit.VerifyAudit, audit.AuditVerdict, retry="safe"),
    Endpoint("lab.verify", "GET", API + "/lab/verify", "lab", audit.VerifyBlobs, audit.BlobVerdict, retry="safe"),
    Endpoint("lab.audit", "GET", API + "/lab/audit", "lab", audit.ReadLabAudit, audit.AuditPage, retry="safe"),
    Endpoint("lab.verify_audit", "GET", API + "/lab/audit/verify", "lab", audit.VerifyLabAudit, audit.AuditVerdict, retry="safe"),
    Endpoint("lab.gc", "POST", API + "/lab/gc", "lab", audit.CollectGarbage, audit.Garbage, retry="safe"),
    Endpoint("reindexing.get", "GET", API + "/lab/reindexing", "lab", reindexing.ShowReindexing, reindexing.Reindexing, retry="safe"),
    Endpoint("reindexing.run", "POST", API + "/lab/reindexing", "lab", reindexing.RunReindexing, reindexing.Reindexed, retry="safe"),
    Endpoint("signing_keys.find", "GET", API + "/lab/signing-keys", "lab", signing_keys.ListSigningKeys, signing_keys.SigningKeys, retry="safe"),
    Endpoint("signing_keys.rotate", "POST", API + "/lab/signing-keys", "lab", signing_keys.RotateSigningKey, signing_keys.SigningKeys),
    Endpoint("lab.backup", "POST", API + "/lab/backup", "lab", audit.BackUp, audit.Backup, retry="never"),
)  # fmt: skip
"""Every endpoint."""

BY_NAME = {row.name: row for row in ENDPOINTS}
"""Endpoints by their name."""
