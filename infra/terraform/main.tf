# The bucket that machines share, and a user for workers with the rights they need and no others.
# The user's key is made by hand (docs/operations.md), so that no secret stands in Terraform's state.

terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

provider "aws" {
  region = var.region
}

resource "aws_s3_bucket" "cspipe" {
  bucket = var.bucket

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_public_access_block" "cspipe" {
  bucket                  = aws_s3_bucket.cspipe.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "cspipe" {
  bucket = aws_s3_bucket.cspipe.id

  versioning_configuration {
    status = "Enabled"
  }
}

# Keys of S3 itself: with KMS an ETag is no MD5 any more, and uploads could only be checked by reading them back.
resource "aws_s3_bucket_server_side_encryption_configuration" "cspipe" {
  bucket = aws_s3_bucket.cspipe.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "cspipe" {
  bucket     = aws_s3_bucket.cspipe.id
  depends_on = [aws_s3_bucket_versioning.cspipe]

  # Training states are large and replaced all the time; of an unfinished run they stay for as long as it may be resumed.
  rule {
    id     = "training-states"
    status = "Enabled"

    filter {
      prefix = "${var.prefix}/states/"
    }

    expiration {
      days = 14
    }

    noncurrent_version_expiration {
      noncurrent_days = 1
    }
  }

  rule {
    id     = "orphan-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  # How long something deleted or overwritten by mistake can be brought back.
  rule {
    id     = "noncurrent-versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = 30
    }
  }

  rule {
    id     = "delete-markers"
    status = "Enabled"

    filter {}

    expiration {
      expired_object_delete_marker = true
    }
  }
}

resource "aws_s3_bucket_policy" "cspipe" {
  bucket     = aws_s3_bucket.cspipe.id
  depends_on = [aws_s3_bucket_public_access_block.cspipe]
  policy     = templatefile("${path.module}/bucket-policy.json", { bucket = var.bucket })
}

resource "aws_iam_policy" "worker" {
  name        = "${var.bucket}-worker"
  description = "What a cspipe worker does in its bucket"
  policy      = templatefile("${path.module}/worker-policy.json", { bucket = var.bucket, prefix = var.prefix })
}

resource "aws_iam_user" "worker" {
  name = "${var.bucket}-worker"
}

resource "aws_iam_user_policy_attachment" "worker" {
  user       = aws_iam_user.worker.name
  policy_arn = aws_iam_policy.worker.arn
}
