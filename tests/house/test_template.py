"""What template.yaml promises: nobody may do more than the code does, nothing is public but the API, what must be set is set."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from bench.prices import ALARMS
from mechaway_core.aws.records import KEEP_CLASSES
from mechaway_core.settings import Settings, variable
from tests.house.tree import PACKAGE, ROOT

# What a call of boto3 or of our own S3 client needs to be allowed. A new call in the code needs a line here and a statement there.
ACTION_OF = {
    "encrypt": "kms:Encrypt",
    "decrypt": "kms:Decrypt",
    "get_secret_value": "secretsmanager:GetSecretValue",
    "invoke": "lambda:InvokeFunction",
    "put_rule": "events:PutRule",
    "put_targets": "events:PutTargets",
    "list_targets_by_rule": "events:ListTargetsByRule",
    "remove_targets": "events:RemoveTargets",
    "delete_rule": "events:DeleteRule",
    "list_rules": "events:ListRules",
    "create_schedule": "scheduler:CreateSchedule",
    "update_schedule": "scheduler:UpdateSchedule",
    "delete_schedule": "scheduler:DeleteSchedule",
    "get_schedule": "scheduler:GetSchedule",
    "list_schedules": "scheduler:ListSchedules",
}
# What is needed without a call of ours: why.
WITHOUT_A_CALL = {
    "s3:GetObject": "s3.py signs requests itself",
    "s3:PutObject": "s3.py signs requests itself",
    "s3:PutObjectTagging": "s3.py signs requests itself; for how long a record is kept",
    "s3:DeleteObject": "s3.py signs requests itself",
    "s3:ListBucket": "listings, and 404 rather than 403 for what is not there",
    "s3:AbortMultipartUpload": "files that are given up",
    "events:TagResource": "put_rule with tags",
    "iam:PassRole": "create_schedule and update_schedule with a role",
    "logs:CreateLogStream": "the runtime's logs",
    "logs:PutLogEvents": "the runtime's logs",
    "sqs:SendMessage": "Lambda's and Scheduler's dead letters",
    "ec2:CreateNetworkInterface": "a function in a VPC",
    "ec2:DescribeNetworkInterfaces": "a function in a VPC",
    "ec2:DescribeSubnets": "a function in a VPC",
    "ec2:DeleteNetworkInterface": "a function in a VPC",
    "elasticfilesystem:ClientMount": "a function with a file system",
    "elasticfilesystem:ClientWrite": "a function with a file system",
}
# Lookups of a key by its id or alias; the template names its key by ARN.
NOT_IN_THE_TEMPLATE = {"describe_key"}
# Actions that no resource narrows.
OF_NO_RESOURCE = {"events:ListRules", "scheduler:ListSchedules", *(action for action in WITHOUT_A_CALL if action.startswith("ec2:"))}


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's functions: `!Ref x` becomes {"Ref": "x"}."""


def _function(loader: _Loader, name: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _function)

TEXT = (ROOT / "template.yaml").read_text()
TEMPLATE: dict[str, Any] = yaml.load(TEXT, _Loader)
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    """Resources of a type, by name; their properties."""
    return {name: one.get("Properties", {}) for name, one in RESOURCES.items() if one["Type"] == kind}


def statements(document: Any) -> Iterator[dict[str, Any]]:
    """The statements of a policy, those under a condition included."""
    for one in document["Statement"]:
        for statement in one["Fn::If"][1:] if "Fn::If" in one else [one]:
            if "Effect" in statement:
                yield statement


def granted() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement that lets a role do something, with the name of its role or policy."""
    for name, role in of_type("AWS::IAM::Role").items():
        for policy in role.get("Policies", []):
            yield from ((name, statement) for statement in statements(policy["PolicyDocument"]))
    for name, policy in of_type("AWS::IAM::ManagedPolicy").items():
        yield from ((name, statement) for statement in statements(policy["PolicyDocument"]))


def actions(statement: dict[str, Any]) -> list[str]:
    """What a statement is about."""
    given = statement["Action"]
    return given if isinstance(given, list) else [given]


def calls() -> set[str]:
    """The operations of AWS that the code calls on clients of boto3."""
    code = "\n".join(path.read_text() for path in (ROOT / PACKAGE / "aws").glob("*.py"))
    found = set(re.findall(r"client(?:\(\))?\.([a-z_]+)\(", code)) | set(re.findall(r'get_paginator\("(\w+)"\)', code))
    return found - {"get_paginator"}


def test_every_call_of_the_code_is_allowed_to_somebody() -> None:
    allowed = {action for _, statement in granted() for action in actions(statement)}
    assert calls() - set(ACTION_OF) == NOT_IN_THE_TEMPLATE
    assert {ACTION_OF[call] for call in calls() - NOT_IN_THE_TEMPLATE} <= allowed


def test_nobody_may_do_what_the_code_does_not() -> None:
    needed = {ACTION_OF[call] for call in calls() - NOT_IN_THE_TEMPLATE} | set(WITHOUT_A_CALL)
    for name, statement in granted():
        assert set(actions(statement)) <= needed, name


def test_what_may_be_done_is_narrowed_to_what_it_is_done_to() -> None:
    for name, statement in granted():
        assert statement["Effect"] == "Allow"
        if statement["Resource"] == "*":
            assert set(actions(statement)) <= OF_NO_RESOURCE, f"{name} may do {statement['Action']} to everything"
        for action in actions(statement):
            assert "*" not in action, f"{name}: {action}"


def test_only_the_role_of_scheduler_is_handed_on_and_only_to_scheduler() -> None:
    """The emulator does not look at it."""
    [statement] = [statement for _, statement in granted() if "iam:PassRole" in actions(statement)]
    assert statement["Resource"] == {"Fn::GetAtt": "SchedulerRole.Arn"}
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}}


def test_no_role_has_a_policy_of_aws() -> None:
    for role in of_type("AWS::IAM::Role").values():
        assert role.get("ManagedPolicyArns", [{"Ref": "Work"}]) == [{"Ref": "Work"}]
    for function in of_type("AWS::Serverless::Function").values():
        assert "Policies" not in function
        assert "Role" in function


def test_both_functions_may_hand_runs_to_the_runner_and_to_no_other_function() -> None:
    """The runner does so with what got lost, what is caught up, and the runs of those who hear of a failure."""
    [(name, statement)] = [(name, one) for name, one in granted() if "lambda:InvokeFunction" in actions(one) and name != "SchedulerRole"]
    assert name == "Work"
    assert statement["Resource"]["Fn::Sub"].endswith(":function:mechaway-${Stage}-runner")


def test_functions_have_roles_of_their_own() -> None:
    roles = [function["Role"]["Fn::GetAtt"] for function in of_type("AWS::Serverless::Function").values()]
    assert sorted(roles) == ["ApiRole.Arn", "RunnerRole.Arn"]


def test_one_permission_lets_all_rules_call_the_runner() -> None:
    permissions = of_type("AWS::Lambda::Permission")
    assert len(permissions) == 1
    (permission,) = permissions.values()
    assert permission["FunctionName"] == {"Ref": "RunnerFunction"}
    assert permission["Principal"] == "events.amazonaws.com"
    assert permission["SourceArn"]["Fn::Sub"].endswith(":rule/mechaway-${Stage}-*")
    assert permission["SourceAccount"] == {"Ref": "AWS::AccountId"}


def test_only_the_api_is_public() -> None:
    assert list(of_type("AWS::Serverless::HttpApi")) == ["Api"]
    for name, function in of_type("AWS::Serverless::Function").items():
        assert "FunctionUrlConfig" not in function
        kinds = [event["Type"] for event in function.get("Events", {}).values()]
        assert kinds == (["HttpApi"] if name == "ApiFunction" else [])
    (bucket,) = of_type("AWS::S3::Bucket").values()
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    for policy in (*of_type("AWS::S3::BucketPolicy").values(), *of_type("AWS::SQS::QueuePolicy").values()):
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Effect"] == "Deny" or (statement["Principal"] != "*" and statement["Condition"])
    ingress = [rule for group in of_type("AWS::EC2::SecurityGroup").values() for rule in group.get("SecurityGroupIngress", [])]
    assert all("CidrIp" not in rule and "SourceSecurityGroupId" in rule for rule in ingress)


def test_the_bucket_is_encrypted_versioned_and_cleaned_up() -> None:
    (bucket,) = of_type("AWS::S3::Bucket").values()
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
    assert "NoncurrentVersionExpiration" in rules["old-versions"]
    assert "Prefix" not in rules["old-versions"]
    assert "AbortIncompleteMultipartUpload" in rules["cut-off-uploads"]
    # A table is put whole by each write; the rest of the bucket is not so much that its history would cost anything.
    assert rules["old-versions-of-tables"]["Prefix"] == "tables/"
    tables = rules["old-versions-of-tables"]["NoncurrentVersionExpiration"]
    assert tables == {"NoncurrentDays": {"Ref": "TableVersionDays"}}
    assert TEMPLATE["Parameters"]["TableVersionDays"]["Default"] <= TEMPLATE["Parameters"]["VersionDays"]["Default"]
    assert {rule["Prefix"] for rule in rules.values() if "ExpirationInDays" in rule} == {"files/", "runs/", "kept/", "stops/"}


def test_records_of_runs_go_after_the_days_of_the_stack_or_of_their_workflow() -> None:
    (bucket,) = of_type("AWS::S3::Bucket").values()
    rules = bucket["LifecycleConfiguration"]["Rules"]
    [plain] = [rule for rule in rules if rule.get("Prefix") == "runs/"]
    assert plain["ExpirationInDays"] == {"Ref": "RunDays"}
    kept = [rule for rule in rules if rule.get("Prefix") == "kept/" and "ExpirationInDays" in rule]
    assert [rule["TagFilters"] for rule in kept] == [[{"Key": "days", "Value": str(days)}] for days in KEEP_CLASSES]
    assert [rule["ExpirationInDays"] for rule in kept] == list(KEEP_CLASSES)
    assert [rule for rule in rules if rule.get("Prefix") == "open/" and "ExpirationInDays" in rule] == []
    for prefix in ("runs/", "kept/", "open/", "stops/"):  # what is deleted is to be gone
        assert any(rule.get("Prefix") == prefix and rule.get("NoncurrentVersionExpiration") == {"NoncurrentDays": 1} for rule in rules)


def test_what_holds_data_outlives_the_stack_and_nothing_else_does() -> None:
    kept = {name for name, one in RESOURCES.items() if one.get("DeletionPolicy") == "Retain"}
    assert kept == {"Bucket", "Key", "FileSystem"}
    for name in kept:
        assert RESOURCES[name]["UpdateReplacePolicy"] == "Retain"
    for layer in of_type("AWS::Serverless::LayerVersion").values():
        assert layer["RetentionPolicy"] == "Delete"


def test_logs_do_not_pile_up() -> None:
    groups = of_type("AWS::Logs::LogGroup")
    assert len(groups) == 3
    assert all(group["RetentionInDays"] == {"Ref": "LogRetentionDays"} for group in groups.values())
    for function in of_type("AWS::Serverless::Function").values():
        assert function["LoggingConfig"]["LogGroup"]["Ref"] in groups


def test_dead_letters_ring_an_alarm() -> None:
    assert of_type("AWS::Serverless::Function")["RunnerFunction"]["DeadLetterQueue"]["TargetArn"] == {"Fn::GetAtt": "DeadLetterQueue.Arn"}
    alarm = of_type("AWS::CloudWatch::Alarm")["DeadLetterAlarm"]
    assert alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
    assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": {"Fn::GetAtt": "DeadLetterQueue.QueueName"}}]
    for rule in of_type("AWS::Events::Rule").values():
        assert all("DeadLetterConfig" in target for target in rule["Targets"])


def test_alarms_go_off_when_the_runner_fails_and_when_nobody_looks_for_what_was_missed() -> None:
    alarms = of_type("AWS::CloudWatch::Alarm")
    assert (alarms["RunnerAlarm"]["MetricName"], alarms["RunnerAlarm"]["Dimensions"][0]["Value"]) == ("Errors", {"Ref": "RunnerFunction"})
    absent = alarms["WatchAlarm"]
    assert absent["Dimensions"] == [{"Name": "RuleName", "Value": {"Ref": "Watch"}}]
    assert (absent["ComparisonOperator"], absent["Threshold"], absent["TreatMissingData"]) == ("LessThanThreshold", 1, "breaching")
    assert of_type("AWS::Events::Rule")["Watch"]["Targets"][0]["Input"] == '{"kind":"watch"}'
    assert len(alarms) == ALARMS
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == {"Fn::If": ["TellsTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}


def test_the_token_is_generated_and_never_shown() -> None:
    assert TEMPLATE["Parameters"]["ApiToken"]["NoEcho"] is True
    assert "GenerateSecretString" in of_type("AWS::SecretsManager::Secret")["TokenSecret"]
    uses = [line.strip() for line in TEXT.splitlines() if "!Ref ApiToken" in line]
    assert uses == [
        "TokenGiven: !Not [!Equals [!Ref ApiToken, generate]]",
        "SecretString: !If [TokenGiven, !Ref ApiToken, !Ref AWS::NoValue]",
    ]


def test_a_token_of_ones_own_is_not_a_short_one() -> None:
    parameter = TEMPLATE["Parameters"]["ApiToken"]
    for taken in (parameter["Default"], "generate", "f" * 24, "A-z0.9_~+/" * 6, "QUJDREVGR0hJSktMTU5PUFFSU1RVVg=="):
        assert re.fullmatch(parameter["AllowedPattern"], taken), taken
    for refused in ("", "secret", "f" * 23, "with a space in the middle", "é" * 24, '{"token": "' + "f" * 24 + '"}', "f" * 24 + "\n"):
        assert not re.fullmatch(parameter["AllowedPattern"], refused), refused


def test_every_variable_of_the_functions_is_a_setting() -> None:
    known = {variable(row) for row in Settings.__dataclass_fields__}
    given = set(TEMPLATE["Globals"]["Function"]["Environment"]["Variables"])
    for function in of_type("AWS::Serverless::Function").values():
        given |= set(function.get("Environment", {}).get("Variables", {}))
    assert given - known == {"AWS_ENDPOINT_URL"}


def test_what_the_settings_accept_the_parameters_accept() -> None:
    assert Settings.load({variable("file_days"): str(TEMPLATE["Parameters"]["FileDays"]["MinValue"])}).file_days == 1
    for bound in ("MinValue", "MaxValue"):
        days = TEMPLATE["Parameters"]["RunDays"][bound]
        assert Settings.load({variable("run_days"): str(days)}).run_days == days
    for parameter, setting in {"Storage": "storage", "Schedules": "schedules"}.items():
        for value in TEMPLATE["Parameters"][parameter]["AllowedValues"]:
            assert getattr(Settings.load({variable(setting): value}), setting) == value


def test_every_parameter_explains_itself_and_is_shown_in_a_group() -> None:
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(TEMPLATE["Parameters"])
    for name, parameter in TEMPLATE["Parameters"].items():
        assert re.fullmatch(r"[A-Z].{20,}\.", parameter["Description"]), name
        assert "Default" in parameter, f"{name} would have to be answered by everybody"


def test_the_front_door_is_known_to_the_engine() -> None:
    timeout = of_type("AWS::Serverless::Function")["ApiFunction"]["Timeout"]
    patience = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]["MECHAWAY_FRONT_DOOR_TIMEOUT"]
    assert int(patience) < 30 <= timeout


@pytest.mark.parametrize("environment", ["default", "dev", "prod"])
def test_the_environments_of_sam_set_parameters_that_exist(environment: str) -> None:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())[environment]
    overrides = dict(pair.split("=") for pair in config["deploy"]["parameters"]["parameter_overrides"].replace('"', "").split())
    assert set(overrides) <= set(TEMPLATE["Parameters"])
    assert overrides["Stage"] in config["global"]["parameters"]["stack_name"]


def test_sam_finds_nothing_to_warn_of() -> None:
    sam = ROOT / ".venv-sam" / "bin" / "sam"
    if not sam.exists():
        pytest.skip("there is no .venv-sam: make validate makes it, and looks at the template")
    done = subprocess.run(
        [str(sam), "validate", "--lint", "--template", str(ROOT / "template.yaml")],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin", "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-central-1", "HOME": "/tmp"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()
