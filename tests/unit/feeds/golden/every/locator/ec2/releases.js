"use strict";
const releases = {"launch":{"ap-southeast-1": "https://console.aws.amazon.com/ec2/home?region=ap-southeast-1#launchAmi=", "cn-north-1": "https://console.amazonaws.cn/ec2/home?region=cn-north-1#launchAmi=", "eu-west-1": "https://console.aws.amazon.com/ec2/home?region=eu-west-1#launchAmi=", "us-east-1": "https://console.aws.amazon.com/ec2/home?region=us-east-1#launchAmi=", "us-west-1": "https://console.aws.amazon.com/ec2/home?region=us-west-1#launchAmi="},"rows":[
["us-east-1", "oracular", "24.10 beta2", "amd64", "hvm:ebs-ssd", "20240901.2", "ami-5", ""],
["us-east-1", "noble desktop", "24.04 LTS", "amd64", "hvm:ebs-ssd", "20240423", "ami-3", ""],
["cn-north-1", "noble", "24.04 LTS", "arm64", "hvm:ebs-ssd", "20240423", "ami-2", ""],
["us-east-1", "noble", "24.04 LTS", "amd64", "hvm:ebs-ssd", "20240423", "ami-0123456789abcdef0", ""],
["ap-southeast-1", "lucid", "10.04 LTS", "amd64", "ebs", "20100427.1", "ami-77f28d25", "aki-a9f38cfb"],
["ap-southeast-1", "lucid", "10.04 LTS", "amd64", "instance-store", "20100427.1", "ami-57f28d05", "aki-a9f38cfb"],
["eu-west-1", "lucid", "10.04 LTS", "amd64", "ebs", "20100427.1", "ami-ab4d67df", "aki-cb4d67bf"],
["eu-west-1", "lucid", "10.04 LTS", "amd64", "instance-store", "20100427.1", "ami-a54d67d1", "aki-cb4d67bf"],
["us-east-1", "lucid", "10.04 LTS", "amd64", "ebs", "20100427.1", "ami-4b4ba522", "aki-0b4aa462"],
["us-east-1", "lucid", "10.04 LTS", "amd64", "instance-store", "20100427.1", "ami-fd4aa494", "aki-0b4aa462"],
["us-west-1", "lucid", "10.04 LTS", "amd64", "ebs", "20100427.1", "ami-d197c694", "aki-c397c686"],
["us-west-1", "lucid", "10.04 LTS", "amd64", "instance-store", "20100427.1", "ami-c997c68c", "aki-c397c686"]
]};
